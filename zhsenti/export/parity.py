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
    from zhsenti.export.base import Reloaded

LEAST_AGREEMENT = 0.995
BATCH_TOKENS = 1024  # of a pass, padding not counted


@dataclass(frozen=True)
class Parity:
    """How far two sets of scores of the same rows differ.

    Attributes:
        n: Rows.
        agreement: Share of them with the same label.
        agreement_ci95: Its Wilson interval.
        max_probability_difference: The largest difference of a probability, over all rows and labels.
        mean_probability_difference: The mean one.
        max_log_odds_difference: The largest difference of the log-odds of two labels, over all rows and pairs.
        disagreeing: Names of the rows with another label, never their texts.
    """

    n: int
    agreement: float
    agreement_ci95: Interval
    max_probability_difference: float
    mean_probability_difference: float
    max_log_odds_difference: float
    disagreeing: list[str]


def compare(reference: np.ndarray, found: np.ndarray, names: Sequence[str]) -> Parity:
    """Compare two sets of scores.

    Args:
        reference: The adapter's class log-probabilities (N, C).
        found: The export's.
        names: What the rows are called.

    Raises:
        ArtifactError: The export's have NaN or infinity in them, or another shape.
    """
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
    """See that an export may be put in place.

    Raises:
        ArtifactError: Less than LEAST_AGREEMENT of the rows have the same label.
    """
    if parity.agreement < LEAST_AGREEMENT:
        shown = "、".join(parity.disagreeing[:8])
        raise ArtifactError(
            "导出的模型与适配器不一致，没有写入任何东西",
            expected=f"至少 {LEAST_AGREEMENT:.1%} 的评论标签相同",
            found=f"{describe(parity)}；不同的行：{shown}{' 等' if len(parity.disagreeing) > 8 else ''}",
            todo="换精度更高的类型（--dtype fp32）；还是不行就是程序错误，请报告。",
        )


def describe(parity: Parity) -> str:
    """One Chinese line for the user."""
    low, high = parity.agreement_ci95
    return (
        f"{parity.n} 条中标签相同的 {parity.agreement:.2%}（95% 区间 {low:.2%}–{high:.2%}），"
        f"概率最多差 {parity.max_probability_difference:.4f}，平均差 {parity.mean_probability_difference:.5f}，"
        f"对数几率最多差 {parity.max_log_odds_difference:.3f}"
    )


def score_rows(
    reloaded: Reloaded, rows: Sequence[list[int]], classes: int, advance: Callable[[int], None]
) -> np.ndarray:
    """Score prompts by an export, together with others of like length.

    Args:
        reloaded: The export.
        rows: Prompt ids of N rows.
        classes: C.
        advance: Told after each batch how many rows it had.

    Returns:
        Log-probabilities, float32 (N, C).

    Raises:
        MemoryShortError: One prompt alone does not fit.
        DeviceLostError: The GPU computes nothing more for this process.
    """
    from zhsenti.models.failures import naming_device_loss
    from zhsenti.prediction.passes import Passes

    scores = np.empty((len(rows), classes), dtype=np.float32)

    def compute(batch: np.ndarray) -> None:
        scores[batch] = reloaded.score([rows[i] for i in batch])
        advance(len(batch))

    with naming_device_loss():
        Passes(BATCH_TOKENS).run([len(ids) for ids in rows], compute)
    return scores
