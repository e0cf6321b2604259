"""What an audit takes and what it says, as data: read by the console summary, the CSV, the page and scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

FORMAT = 1
KINDS = {
    "cross_split": "文本也在另一部分里",
    "conflict": "同文异标",
    "unknown_label": "标签不认识",
    "empty": "没有文字",
    "shortcut": "一看便知标签的特征",
    "near_cross_split": "与另一部分里的文本近似",
    "encoding": "可疑字符",
    "too_long": "超过 max_length",
    "exact_duplicate": "重复文本",
    "near_duplicate": "近似重复",
    "adapter_disagrees": "适配器不同意标签",
    "suspect_label": "标签可能有误",
}
SPLIT_ORDER = ("train", "dev", "test")


@dataclass(frozen=True)
class AuditSplit:
    """One file or part. ``labels``: a class index, or None where unknown or empty; None as a whole: no label column.

    rows        1-based data row in the source, one a text;  source  where the rows are from
    raw_labels  the labels as written, to show those the task does not know;  note  the file's encoding (Chinese)
    """

    name: str
    source: str
    texts: Sequence[str]
    labels: Sequence[int | None] | None
    rows: Sequence[int]
    aspects: Sequence[str] | None = None
    raw_labels: Sequence[str] | None = None
    note: str = ""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Model):
    """One thing to look at. ``row`` is None for a feature of many rows; ``score``'s meaning depends on the kind."""

    kind: str
    title: str
    split: str
    row: int | None = None
    text: str = ""
    label: str = ""
    detail: str = ""
    other_split: str | None = None
    other_row: int | None = None
    score: float | None = None


class TokenStats(_Model):
    """Prompt lengths in tokens, template included. ``measured``: by the model's tokenizer, else estimated."""

    measured: bool
    max_length: int
    mean: float
    median: float
    p95: float
    max: int
    n_over: int


class SplitFacts(_Model):
    name: str
    source: str
    note: str
    n: int
    labelled: bool
    labels: dict[str, int]
    tokens: TokenStats


class Shortcut(_Model):
    """``feature`` is in ``rows`` of the rows looked at, ``purity`` of them labelled ``label``; ``low`` is the Wilson
    95 % lower bound. ``meaning``: a word that may well say what it means; else an emoji, a symbol or a pattern.
    """

    kind: str
    feature: str
    label: str
    rows: int
    purity: float
    low: float
    meaning: bool


class Audit(_Model):
    """Counts are of rows unless said otherwise. Keys like ``test_in_train``: rows of test whose text is in train.

    conflicting_texts counts texts: identical in train (or over all splits) with more than one label.
    near_repeated: rows near, but not identical, to an earlier row of their split.
    """

    format: int = FORMAT
    labels: list[str]
    splits: list[SplitFacts]
    exact_cross_split: dict[str, int]
    normalised_cross_split: dict[str, int]
    near_cross_split: dict[str, int]
    repeated: dict[str, int]
    repeated_in_train: int
    near_repeated: dict[str, int]
    conflicting_texts: int
    conflicting_texts_all: int
    empty: int
    suspicious_characters: int
    unknown_labels: int
    shortcuts: list[Shortcut]
    suspects: int
    adapter_disagreements: int | None
    warnings: list[str]
    notes: list[str]
    findings: list[Finding]

    def counts(self) -> dict[str, int]:
        """Findings of each kind that occurs, in the order of KINDS."""
        found = [finding.kind for finding in self.findings]
        return {kind: found.count(kind) for kind in KINDS if kind in found}


def masked(text: str) -> str:
    """``text`` of the same length for pages that are passed on: of seven or more digits (telephone, QQ, order) three
    stay."""
    return re.sub(r"\d{7,}", lambda run: run[0][:3] + "•" * (len(run[0]) - 3), text)


MAX_SHOWN = 300
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """``text`` for people: what cannot be seen (or encoded) as an escape, long texts cut."""
    cut = text[:limit]
    visible = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", cut)
    return visible + (f"……（共 {len(text)} 字）" if len(text) > limit else "")


class Rows:
    """All splits' rows in one list, train, dev and test first, then others as given; an index is a position in it."""

    def __init__(self, splits: Sequence[AuditSplit], labels: Sequence[str]) -> None:
        rank = {name: place for place, name in enumerate(SPLIT_ORDER)}
        self.splits = sorted(splits, key=lambda split: rank.get(split.name, len(rank)))
        self.names = [split.name for split in self.splits]
        self.of: dict[str, range] = {}
        self.texts: list[str] = []
        self.labels: list[int | None] = []
        self.aspects: list[str] = []
        self._where: list[tuple[str, int]] = []
        self._written: list[str] = []
        for split in self.splits:
            n = len(split.texts)
            self.of[split.name] = range(len(self.texts), len(self.texts) + n)
            given = split.labels if split.labels is not None else [None] * n
            self.texts += split.texts
            self.labels += given
            self.aspects += split.aspects if split.aspects is not None else [""] * n
            self._where += [(split.name, row) for row in split.rows]
            raw = split.raw_labels if split.raw_labels is not None else [""] * n
            self._written += [written if k is None else labels[k] for k, written in zip(given, raw, strict=True)]

    def split(self, index: int) -> str:
        return self._where[index][0]

    def number(self, index: int) -> int:
        return self._where[index][1]

    def written(self, index: int) -> str:
        """The label's name; as it stands in the file where the task does not know it."""
        return shown(self._written[index], 60)

    def finding(
        self, kind: str, index: int, detail: str = "", other: int | None = None, score: float | None = None
    ) -> Finding:
        split, row = self._where[index]
        other_split, other_row = self._where[other] if other is not None else (None, None)
        return Finding(
            kind=kind,
            title=KINDS[kind],
            split=split,
            row=row,
            text=shown(self.texts[index]),
            label=self.written(index),
            detail=detail,
            other_split=other_split,
            other_row=other_row,
            score=None if score is None else round(score, 4),
        )
