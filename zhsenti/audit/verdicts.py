"""An audit's counts as sentences for people, worst first, and the checks that need nothing but label counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from zhsenti.audit.findings import Shortcut, SplitFacts
from zhsenti.audit.same_texts import SameTexts

RARE, RATIO, DRIFT_P, LENGTH_AUC = 0.10, 5.0, 0.001, 0.7


def _pairs(splits: Sequence[SplitFacts]) -> list[tuple[SplitFacts, SplitFacts]]:
    """(earlier, later) split; those with test first."""
    return sorted(combinations(splits, 2), key=lambda pair: -splits.index(pair[1]))


def leaks(splits: Sequence[SplitFacts], same: SameTexts) -> Iterator[str]:
    """Rows of a later split whose text is in an earlier one: what is measured on them is memory."""
    for earlier, later in _pairs(splits):
        key = f"{later.name}_in_{earlier.name}"
        n, exact = same.normalised_cross_split[key], same.exact_cross_split[key]
        if n:
            yield (
                f"{later.name} 的 {later.n} 条里有 {n} 条（{percent(n, later.n)}）的文本也在 {earlier.name} 里"
                f"（其中 {exact} 条一字不差）：在这些行上测得的成绩会虚高"
            )


def conflicts(splits: Sequence[SplitFacts], same: SameTexts) -> Iterator[str]:
    if n := same.conflicting_texts_all:
        first = f"，其中 {same.conflicting_texts} 个在 {splits[0].name} 内部就矛盾" if len(splits) > 1 else ""
        yield f"{n} 个文本（一字不差）带着不同的标签{first}：总有一边是错的"


def near_leaks(splits: Sequence[SplitFacts], same: SameTexts) -> Iterator[str]:
    for earlier, later in _pairs(splits):
        if n := same.near_cross_split[f"{later.name}_in_{earlier.name}"]:
            yield f"{later.name} 里有 {n} 条与 {earlier.name} 里的文本近似（改动几个字）"


def repeats(splits: Sequence[SplitFacts], same: SameTexts) -> Iterator[str]:
    for split in splits:
        exact, near = same.repeated[split.name], same.near_repeated[split.name]
        if exact:
            yield f"{split.name} 有 {exact} 条重复文本（{percent(exact, split.n)}）"
        if near:
            yield f"{split.name} 有 {near} 条与前面的文本近似（只差标点，或改动几个字）"


def shortcut_sentences(shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    """Marks without a meaning of their own are the ones to worry about."""
    for meaning, what, so in (
        (False, "没有词义的特征（表情、符号、网址、数字等）", "模型可能只学会看它"),
        (True, "词", "多半是正常的情感用词，请过目"),
    ):
        some = [s for s in shortcuts if s.meaning == meaning]
        if some:
            shown = "、".join(f"{s.feature}→{s.label}（{s.rows} 行，{100 * s.purity:.0f} %）" for s in some[:3])
            yield f"{len(some)} 个{what}几乎直接给出标签：{shown}{'等' if len(some) > 3 else ''}；{so}"


def imbalance(splits: Sequence[SplitFacts]) -> Iterator[str]:
    for split in splits:
        if not split.labelled or not (total := sum(split.labels.values())):
            continue
        missing = [label for label, n in split.labels.items() if not n]
        if missing:
            yield f"{split.name} 里没有标签：{'、'.join(missing)}"
        present = {label: n for label, n in split.labels.items() if n}
        rare, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
        if present[rare] < RARE * total or present[most] > RATIO * present[rare]:
            yield (
                f"{split.name} 的标签不平衡：{rare} 只有 {present[rare]} 条（{percent(present[rare], total)}），"
                f"{most} 有 {present[most]} 条；不要只看准确率"
            )


def drift(splits: Sequence[SplitFacts]) -> Iterator[str]:
    """Label shares that differ between splits by more than chance (chi-square test)."""
    from scipy.stats import chi2_contingency

    labelled = [split for split in splits if sum(split.labels.values())]
    table = np.array([list(split.labels.values()) for split in labelled])
    if len(labelled) < 2:
        return
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return
    p = float(chi2_contingency(table).pvalue)
    if p < DRIFT_P:
        shares = "；".join(f"{split.name} {_shares(split.labels)}" for split in labelled)
        yield f"各部分的标签比例不同（卡方检验 p = {p:.1g}）：{shares}"


def length_sentence(auc: float, label: str) -> Iterator[str]:
    if auc > LENGTH_AUC:
        yield f"只看文本长短就能认出“{label}”（AUC {auc:.2f}）：模型可能只学会看长短"


def too_long(splits: Sequence[SplitFacts]) -> Iterator[str]:
    for split in splits:
        stats = split.tokens
        if stats.n_over:
            how = "" if stats.measured else "（按字数估计）"
            yield (
                f"{split.name} 有 {stats.n_over} 条（{percent(stats.n_over, split.n)}）超过 max_length "
                f"{stats.max_length}{how}，最长 {stats.max} 个 token：中间的文字不会被读到"
            )


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return "，".join(f"{label} {percent(n, total)}" for label, n in counts.items())


def percent(n: int, total: int) -> str:
    return f"{100 * n / total:.1f} %"
