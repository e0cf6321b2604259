"""Labels that the task does not know, and label counts that make figures misleading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from zhsenti.audit.checks.base import AuditOptions, Check, Outcome, Warned, counted, percent
from zhsenti.audit.findings import Kind
from zhsenti.audit.rows import Rows
from zhsenti.task import SentimentTask

UNKNOWN = Kind("unknown_label", "标签不认识", 30)
IMBALANCE, DRIFT = 65, 66  # ranks of warnings
RARE, RATIO = 0.10, 5.0  # a label with a smaller share, or this many times rarer than another, is rare
DRIFT_P = 0.001


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Look at the labels alone, whatever the texts."""
    unknown = []
    for i, label in enumerate(rows.labels):
        if label is None and rows.is_labelled(i):
            written = rows.written(i)
            unknown.append(rows.finding(UNKNOWN, i, f"“{written}”" if written.strip() else "标签是空的"))
    counts = {split.name: rows.label_counts(split.name) for split in rows.splits if split.labels is not None}
    return Outcome(
        findings=unknown,
        warnings=[
            *counted(len(unknown), "行的标签不认识或为空：训练和评估会拒绝这些行", UNKNOWN.rank),
            *_imbalance(counts),
            *_drift(counts),
        ],
        fields={"unknown_labels": len(unknown)},
    )


def _imbalance(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Warned]:
    for split, labels in counts.items():
        if not (total := sum(labels.values())):
            continue
        missing = [label for label, n in labels.items() if not n]
        if missing:
            yield Warned(f"{split} 里没有标签：{'、'.join(missing)}", IMBALANCE)
        present = {label: n for label, n in labels.items() if n}
        rare, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
        if present[rare] < RARE * total or present[most] > RATIO * present[rare]:
            yield Warned(
                f"{split} 的标签不平衡：{rare} 只有 {present[rare]} 条（{percent(present[rare], total)}），"
                f"{most} 有 {present[most]} 条；不要只看准确率",
                IMBALANCE,
            )


def _drift(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Warned]:
    """Label shares that differ between splits by more than chance (chi-square test)."""
    from scipy.stats import chi2_contingency

    labelled = {split: labels for split, labels in counts.items() if sum(labels.values())}
    table = np.array([list(labels.values()) for labels in labelled.values()])
    if len(labelled) < 2:
        return
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return
    p = float(chi2_contingency(table).pvalue)
    if p < DRIFT_P:
        shares = "；".join(f"{split} {_shares(labels)}" for split, labels in labelled.items())
        yield Warned(f"各部分的标签比例不同（卡方检验 p = {p:.1g}）：{shares}", DRIFT)


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return "，".join(f"{label} {percent(n, total)}" for label, n in counts.items())


LABELS = Check("标签", (UNKNOWN,), check)
