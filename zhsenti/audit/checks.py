"""What is wrong with a data set, found before any compute is spent on it. Pure: rows in, one ``Audit`` out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zhsenti.audit import verdicts
from zhsenti.audit.findings import FORMAT, KINDS, Audit, AuditSplit, Finding, Rows, Shortcut, SplitFacts
from zhsenti.audit.lengths import CountTokens, prompt_tokens, token_stats
from zhsenti.audit.same_texts import find_same_texts
from zhsenti.audit.shortcuts import find_shortcuts, length_auc
from zhsenti.audit.suspects import LISTED_SHARE, suspicion
from zhsenti.core.errors import DataError
from zhsenti.data.text import is_blank, suspicious
from zhsenti.task import SentimentTask

__all__ = ["FORMAT", "STAGES", "Audit", "AuditOptions", "AuditSplit", "Finding", "audit"]

DISAGREES = 0.9
STAGES = ("字符", "长度", "重复与泄漏", "一看便知标签的特征", "可能有误的标签")


@dataclass(frozen=True)
class AuditOptions:
    """count_tokens  texts -> tokens of each (None: estimated);  seed  of MinHash and of the folds
    adapter       (texts, aspects) -> class log-probabilities (N, C);  adapter_rows  how many suspects it reads
    stage         is told the name of each stage in STAGES as it begins.
    """

    count_tokens: CountTokens | None = None
    seed: int = 42
    adapter: Callable[[list[str], list[str] | None], np.ndarray] | None = None
    adapter_rows: int = 500
    stage: Callable[[str], None] = lambda name: None


def audit(splits: Sequence[AuditSplit], task: SentimentTask, options: AuditOptions | None = None) -> Audit:
    """Every check on all rows of ``splits`` together. Raises DataError when there is no row or a name is used twice."""
    options = options or AuditOptions()
    doubled = [name for name, n in Counter(split.name for split in splits).items() if n > 1]
    if doubled:
        raise DataError(f"有不止一份数据叫 {'、'.join(doubled)}", todo="给文件取不同的名字。")
    if not splits or not all(len(split.texts) for split in splits):
        raise DataError("没有可审计的数据行", found="、".join(split.source for split in splits) or "没有文件")
    rows = Rows(splits, task.labels)
    options.stage(STAGES[0])
    blank = {i for i, text in enumerate(rows.texts) if is_blank(text)}
    empty = [rows.finding("empty", i, "只有空白或看不见的字符" if rows.texts[i] else "空") for i in sorted(blank)]
    characters = [
        rows.finding("encoding", i, "；".join(found))
        for i, text in enumerate(rows.texts)
        if (found := suspicious(text))
    ]
    options.stage(STAGES[1])
    facts, long = _lengths(rows, task, options)
    unknown = _unknown_labels(rows, task)
    options.stage(STAGES[2])
    same = find_same_texts(rows, blank, task.labels, options.seed)
    options.stage(STAGES[3])
    usable = [i for i, label in enumerate(rows.labels) if label is not None and i not in blank]
    learned = rows.split(usable[0]) if usable else ""  # train: what a model would learn from
    shortcuts, by_length = _shortcuts(rows, [i for i in usable if rows.split(i) == learned], task)
    options.stage(STAGES[4])
    doubted = _Doubts(rows, usable, task, options)

    warnings = [
        *verdicts.leaks(facts, same),
        *verdicts.conflicts(facts, same),
        *_count(len(unknown), "行的标签不认识或为空：训练和评估会拒绝这些行"),
        *_count(len(empty), "行没有文字（空白或看不见的字符）"),
        *verdicts.shortcut_sentences([s for s in shortcuts if not s.meaning]),
        *by_length,
        *verdicts.near_leaks(facts, same),
        *verdicts.imbalance(facts),
        *verdicts.drift(facts),
        *verdicts.repeats(facts, same),
        *_count(len(characters), "行有可疑字符（替换符、乱码、控制或零宽字符）"),
        *verdicts.too_long(facts),
        *_count(len(doubted.disagreements), f"行的标签适配器不同意（另一标签的概率 ≥ {DISAGREES}）：优先人工复核"),
        *_count(len(doubted.suspects), "行的标签可疑（交叉验证的线性模型给出别的标签）：值得人工复核"),
        *verdicts.shortcut_sentences([s for s in shortcuts if s.meaning]),
    ]
    everything = [*empty, *characters, *unknown, *long, *same.findings, *_features(shortcuts, learned)]
    order = {kind: place for place, kind in enumerate(KINDS)}
    everything.sort(key=lambda finding: order[finding.kind])
    return Audit(
        labels=list(task.labels),
        splits=facts,
        exact_cross_split=same.exact_cross_split,
        normalised_cross_split=same.normalised_cross_split,
        near_cross_split=same.near_cross_split,
        repeated=same.repeated,
        repeated_in_train=same.repeated[rows.names[0]],
        near_repeated=same.near_repeated,
        conflicting_texts=same.conflicting_texts,
        conflicting_texts_all=same.conflicting_texts_all,
        empty=len(empty),
        suspicious_characters=len(characters),
        unknown_labels=len(unknown),
        shortcuts=shortcuts,
        suspects=len(doubted.suspects),
        adapter_disagreements=None if options.adapter is None else len(doubted.disagreements),
        warnings=warnings,
        notes=doubted.notes,
        findings=[*everything, *doubted.disagreements, *doubted.suspects],
    )


def _count(n: int, sentence: str) -> list[str]:
    return [f"{n} {sentence}"] if n else []


def _lengths(rows: Rows, task: SentimentTask, options: AuditOptions) -> tuple[list[SplitFacts], list[Finding]]:
    tokens = prompt_tokens(rows.texts, rows.aspects, task, options.count_tokens)
    measured = options.count_tokens is not None
    facts = []
    for split in rows.splits:
        own = rows.of[split.name]
        counts = Counter(rows.labels[i] for i in own)
        stats = token_stats(tokens[own.start : own.stop], task.max_length, measured=measured)
        facts.append(
            SplitFacts(
                name=split.name,
                source=split.source,
                note=split.note,
                n=len(own),
                labelled=split.labels is not None,
                labels={name: counts[k] for k, name in enumerate(task.labels)},
                tokens=stats,
            )
        )
    about = "" if measured else "约 "
    found = [
        rows.finding("too_long", i, f"{about}{tokens[i]} 个 token，上限 {task.max_length}", score=float(tokens[i]))
        for i in np.flatnonzero(tokens > task.max_length).tolist()
    ]
    return facts, found


def _unknown_labels(rows: Rows, task: SentimentTask) -> list[Finding]:
    labelled = {split.name for split in rows.splits if split.labels is not None}
    found = []
    for i, label in enumerate(rows.labels):
        if label is None and rows.split(i) in labelled:
            written = rows.written(i)
            found.append(rows.finding("unknown_label", i, "标签是空的" if not written.strip() else f"“{written}”"))
    return found


def _shortcuts(rows: Rows, train: Sequence[int], task: SentimentTask) -> tuple[list[Shortcut], list[str]]:
    """Features that give the label away, and a sentence when the length alone does."""
    texts = [rows.texts[i] for i in train]
    labels = [label for i in train if (label := rows.labels[i]) is not None]
    if len(set(labels)) < 2:
        return [], []
    auc, label = length_auc(texts, labels)
    return find_shortcuts(texts, labels, task.labels), list(verdicts.length_sentence(auc, task.labels[label]))


def _features(shortcuts: Sequence[Shortcut], split: str) -> list[Finding]:
    return [
        Finding(
            kind="shortcut",
            title=KINDS["shortcut"],
            split=split,
            text=s.feature,
            label=s.label,
            detail=f"{s.rows} 行里 {100 * s.purity:.1f} % 是{s.label}；{'词' if s.meaning else '没有词义'}",
            score=round(s.low, 4),
        )
        for s in shortcuts
    ]


class _Doubts:
    """Labelled rows ranked by the linear model's doubt; the worst of them, and what an adapter says of the worst."""

    def __init__(self, rows: Rows, usable: Sequence[int], task: SentimentTask, options: AuditOptions) -> None:
        self._rows, self._task = rows, task
        self.notes: list[str] = []
        self.suspects: list[Finding] = []
        self.disagreements: list[Finding] = []
        given = [label for i in usable if (label := rows.labels[i]) is not None]
        ranked = list(range(len(usable)))
        doubt = suspicion([rows.texts[i] for i in usable], given, options.seed)
        if doubt is None:
            self.notes.append("有标签的行太少或只有一种标签，没有检查标签是否有误")
        else:
            scores, others = doubt
            ranked = np.argsort(-scores, kind="stable").tolist()
            listed = [k for k in ranked[: int(LISTED_SHARE * len(usable))] if scores[k] > 0]
            self.suspects = [self._suspect(usable[k], float(scores[k]), int(others[k])) for k in listed]
        if options.adapter is not None and ranked:
            self._ask(options.adapter, [usable[k] for k in ranked[: options.adapter_rows]])

    def _suspect(self, i: int, score: float, other: int) -> Finding:
        return self._rows.finding("suspect_label", i, f"线性模型认为是{self._task.labels[other]}", score=score)

    def _ask(self, adapter: Callable[[list[str], list[str] | None], np.ndarray], asked: list[int]) -> None:
        rows = self._rows
        aspects = [rows.aspects[i] for i in asked] if self._task.has_aspect else None
        probabilities = np.exp(adapter([rows.texts[i] for i in asked], aspects))
        found = []
        for i, row in zip(asked, probabilities, strict=True):
            other = int(row.argmax())
            if other != rows.labels[i] and row[other] >= DISAGREES:
                detail = f"适配器认为是{self._task.labels[other]}（概率 {row[other]:.3f}）"
                found.append(rows.finding("adapter_disagrees", i, detail, score=float(row[other])))
        self.disagreements = sorted(found, key=lambda finding: -(finding.score or 0))
        self.notes.append(f"适配器读了最可疑的 {len(asked)} 行")
