"""Does an export say what the adapter says? Both score the same real reviews; what differs is counted.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.core.errors import ArtifactError
from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Interval

if TYPE_CHECKING:
    from zhsenti.export.merged import Reloaded

LEAST_AGREEMENT = 0.995
BATCH_TOKENS = 1024  # of a pass, padding not counted


@dataclass(frozen=True)
class Parity:
    """agreement  share of the n rows with the same label, with its Wilson interval; differences of probabilities are
    over all labels, ``max_log_odds_difference`` is over all pairs of labels;  disagreeing  names of rows, not texts.
    """

    n: int
    agreement: float
    agreement_ci95: Interval
    max_probability_difference: float
    mean_probability_difference: float
    max_log_odds_difference: float
    disagreeing: list[str]


def compare(reference: np.ndarray, found: np.ndarray, names: Sequence[str]) -> Parity:
    """Two sets of class log-probabilities (N, C) of rows called ``names``. Raises ArtifactError for NaN or infinity."""
    if found.shape != reference.shape or not np.isfinite(found).all():
        raise ArtifactError(
            "导出的模型给出的不是数（NaN 或无穷），没有写入任何东西",
            found=f"{int((~np.isfinite(found)).any(axis=-1).sum())} 条",
            todo="换 --dtype fp32 再导出。",
        )
    before, after = reference.astype(np.float64), found.astype(np.float64)
    same = before.argmax(axis=1) == after.argmax(axis=1)
    gaps, changes = np.abs(np.exp(after) - np.exp(before)), after - before
    agreement, interval = share(int(same.sum()), len(same))
    return Parity(
        len(same),
        agreement,
        interval,
        float(gaps.max()),
        float(gaps.mean()),
        float((changes.max(axis=1) - changes.min(axis=1)).max()),
        [name for name, equal in zip(names, same, strict=True) if not equal],
    )


def refuse_difference(parity: Parity) -> None:
    """Raises ArtifactError under LEAST_AGREEMENT."""
    if parity.agreement < LEAST_AGREEMENT:
        shown = "、".join(parity.disagreeing[:8])
        raise ArtifactError(
            "导出的模型与适配器不一致，没有写入任何东西",
            expected=f"至少 {LEAST_AGREEMENT:.1%} 的评论标签相同",
            found=f"{describe(parity)}；不同的行：{shown}{' 等' if len(parity.disagreeing) > 8 else ''}",
            todo="换精度更高的类型（--dtype fp32）；还是不行就是程序错误，请报告。",
        )


def describe(parity: Parity) -> str:
    low, high = parity.agreement_ci95
    return (
        f"{parity.n} 条中标签相同的 {parity.agreement:.2%}（95% 区间 {low:.2%}–{high:.2%}），"
        f"概率最多差 {parity.max_probability_difference:.4f}，平均差 {parity.mean_probability_difference:.5f}，"
        f"对数几率最多差 {parity.max_log_odds_difference:.3f}"
    )


def score_rows(
    reloaded: Reloaded, rows: Sequence[list[int]], classes: int, advance: Callable[[int], None]
) -> np.ndarray:
    """Log-probabilities (N, C) of prompts by an export, in rows of like length; ``advance`` hears of rows done."""
    from zhsenti.methods.prompt import token_batches

    scores = np.empty((len(rows), classes), dtype=np.float32)
    for batch in token_batches([len(ids) for ids in rows], BATCH_TOKENS):
        scores[batch] = reloaded.score([rows[i] for i in batch])
        advance(len(batch))
    return scores
