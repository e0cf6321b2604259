"""Figures as people read them, on the console, on the page and in the card."""

from __future__ import annotations

from collections.abc import Mapping

from zhsenti.audit.findings import masked
from zhsenti.evaluation.compare import Pair
from zhsenti.evaluation.schema import Interval


def percent(value: float, digits: int = 1) -> str:
    """A share as "92.7 %"."""
    return f"{100 * value:.{digits}f} %"


def interval(ci: Interval | None) -> str:
    """An interval of shares as "[91.0, 94.0]", in per cent; nothing for None."""
    return "" if ci is None else f"[{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"


def ends(text: str, limit: int = 60) -> str:
    """A long text's beginning and end (some changes are at the end), numbers of people masked."""
    text = masked(text)
    return text if len(text) <= limit else f"{text[: limit // 2]}……{text[-limit // 2 :]}"


def judgement(pair: Pair) -> str:
    """Whether the two systems differ by more than chance, as people are told."""
    return "差别显著" if pair.real else "还不能确定有差别"


def pair_sentence(pair: Pair, titles: Mapping[str, str]) -> str:
    """``A 比 B 高 6.5 个百分点 [4.2, 8.8]，p < 0.001：差别显著``.

    Args:
        pair: A ``readable`` one; the rows that decide are spoken of.
        titles: Name of a system -> what people call it.
    """
    decisive = pair.decisive
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.3f}"
    marked = "（含训练语料里有测试数据的系统）" if pair.contaminated else ""
    low, high = sorted(100 * end * (1 if decisive.difference >= 0 else -1) for end in decisive.ci95)
    size = f"{'高' if decisive.difference > 0 else '低'} {100 * abs(decisive.difference):.1f} 个百分点"
    if decisive.difference == 0:
        size = "相差 0.0 个百分点"
    return f"{titles[pair.a]} 比 {titles[pair.b]} {size} [{low:.1f}, {high:.1f}]，{p}：{judgement(pair)}{marked}"
