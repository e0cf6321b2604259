"""What an audit says, as data: read by the console summary, the CSV, the page, the evaluation report and scripts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from zhsenti.data.tables import write_csv

FORMAT = 1
LAST = 1000  # the rank of what nobody has ranked
MAX_SHOWN = 300  # characters of a text in a finding


class Kind(NamedTuple):
    """One kind of finding.

    Attributes:
        name: For files and scripts.
        title: For people (Chinese).
        rank: How bad it is compared with other kinds: lists begin with the lowest. Ours run from 10 (text in train and
            test) to 130 (ordinary sentiment words).
    """

    name: str
    title: str
    rank: int = LAST


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Model):
    """One thing to look at.

    Attributes:
        kind: The kind's name.
        title: The kind's title (Chinese).
        split: Where the row is.
        row: Its number in the source, from 1 on; None for a feature of many rows.
        text: The text, or the feature, as ``shown``.
        label: The label as written.
        detail: More on it (Chinese).
        other_split: Where the row is that it is like or contradicts.
        other_row: That row's number.
        score: How bad it is; what it means depends on the kind.
    """

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
    """Prompt lengths of a split in tokens, template included.

    Attributes:
        measured: By the model's tokenizer; else estimated.
        max_length: The task's.
        mean: Arithmetic mean.
        median: Half are shorter.
        p95: 95 % are shorter.
        max: The longest.
        n_over: How many are longer than max_length.
    """

    measured: bool
    max_length: int
    mean: float
    median: float
    p95: float
    max: int
    n_over: int


class SplitFacts(_Model):
    """One split.

    Attributes:
        name: train, dev, test, or the file's name without its ending.
        source: Where the rows are from.
        note: The file's encoding (Chinese).
        n: How many rows there are.
        labelled: Whether there is a label column.
        labels: How many rows have each label.
        tokens: How long the prompts are.
    """

    name: str
    source: str
    note: str
    n: int
    labelled: bool
    labels: dict[str, int]
    tokens: TokenStats


class Shortcut(_Model):
    """A feature that gives a label away.

    Attributes:
        kind: word, first (word of a text), emoji, symbol or pattern.
        feature: The word or character, or the pattern's name (Chinese).
        label: The label that it gives away.
        rows: How many of the rows looked at have it.
        purity: The share of these that have the label.
        low: Lower end of purity's 95 % interval (Wilson).
        meaning: Whether it is a word that may well say what it means.
    """

    kind: str
    feature: str
    label: str
    rows: int
    purity: float
    low: float
    meaning: bool


class Audit(_Model):
    """The result of an audit. Counts are of rows unless said otherwise.

    Attributes:
        format: Of this file.
        labels: The task's.
        splits: Each split by itself.
        exact_cross_split: Under "test_in_train": rows of test whose text is in train, too.
        normalised_cross_split: The same, also where only spaces, punctuation, case or width differ.
        near_cross_split: Rows of test that are near a text of train without being the same.
        repeated: Rows of each split that repeat an earlier row of it exactly.
        repeated_in_train: Those of the first split.
        near_repeated: Rows of each split that are near an earlier row of it without being identical.
        conflicting_texts: Texts that occur in the first split with more than one label.
        conflicting_texts_all: Texts that do in all splits together.
        empty: Rows with nothing to read.
        suspicious_characters: Rows with characters that look damaged.
        unknown_labels: Rows whose label is empty or not one of the task's.
        shortcuts: Features that give a label away.
        suspects: Rows whose label a linear model doubts, those listed.
        adapter_disagreements: Rows whose label an adapter contradicts; None without one.
        warnings: Sentences for people, the worst first (Chinese).
        notes: On the audit itself (Chinese).
        findings: Each thing to look at, the worst kinds first.
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
        """How many findings there are of each kind that occurs, the worst kinds first."""
        return dict(Counter(finding.kind for finding in self.findings))


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write findings as a CSV that opens in Excel, a row each.

    Raises:
        OSError: It cannot be written.
    """
    columns = list(Finding.model_fields)
    write_csv(path, columns, ([getattr(finding, name) for name in columns] for finding in findings))


# ── for people ────────────────────────────────────────────────────────────────────────────────────────────────────

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """A text for people: what cannot be seen (or encoded) as an escape, the rest of a long text left out."""
    visible = _UNSEEN.sub(lambda hidden: f"\\u{ord(hidden[0]):04x}", text[:limit])
    return visible + (f"……（共 {len(text)} 字）" if len(text) > limit else "")


def masked(text: str) -> str:
    """A text of the same length for pages that are passed on: of seven or more digits (telephone, QQ, order) three
    stay."""
    return re.sub(r"\d{7,}", lambda run: run[0][:3] + "•" * (len(run[0]) - 3), text)
