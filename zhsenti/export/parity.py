"""Does an export say what the adapter says? Both on the same real rows, label by label and probability by probability.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from zhsenti.errors import ArtifactError
from zhsenti.evaluation.metrics import share
from zhsenti.prediction.explain import log_odds

if TYPE_CHECKING:
    from zhsenti.export.merged import Reloaded
    from zhsenti.methods.base import Encoded

LEAST_AGREEMENT = 0.995
BATCH_ROWS = 16


class Parity(BaseModel):
    """rows  compared;  agreement  share with the same label, with its Wilson interval;  differing  indices of the rest
    max, mean  of |difference of the probability of the adapter's label|;  max_log_odds  of its log-odds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    rows: int
    agreement: float
    agreement_ci95: tuple[float, float]
    differing: list[int]
    max_probability: float = Field(ge=0)
    mean_probability: float = Field(ge=0)
    max_log_odds: float = Field(ge=0)

    def line(self) -> str:
        low, high = self.agreement_ci95
        return (
            f"{self.runtime}：{self.rows:,} 条里 {self.rows - len(self.differing):,} 条判断相同，"
            f"{self.agreement:.2%} [{low:.2%}, {high:.2%}]；概率最多差 {self.max_probability:.4f}，"
            f"平均差 {self.mean_probability:.5f}"
        )


def score_export(reloaded: Reloaded, items: Sequence[Encoded], tell: Callable[[int], None]) -> np.ndarray:
    """Log-probabilities float32 (N, C), rows of like length together. ``tell`` hears how many rows are done."""
    order = sorted(range(len(items)), key=lambda i: len(items[i].ids))
    parts, done = [], 0
    for begin in range(0, len(order), BATCH_ROWS):
        some = order[begin : begin + BATCH_ROWS]
        parts.append(reloaded.score([items[i].ids for i in some]))
        done += len(some)
        tell(done)
    scores = np.concatenate(parts)
    result = np.empty_like(scores)
    result[order] = scores
    return result


def compare(adapter: np.ndarray, export: np.ndarray, runtime: str) -> Parity:
    """Both log-probabilities (N, C). Raises ArtifactError when the export's are not finite."""
    if not np.isfinite(export).all():
        raise ArtifactError("导出的模型给出的不是数（NaN）", todo="换一种 --dtype。")
    labels = adapter.argmax(axis=1)
    differing = np.flatnonzero(export.argmax(axis=1) != labels)
    rows = np.arange(len(labels))
    difference = np.abs(np.exp(adapter[rows, labels].astype(float)) - np.exp(export[rows, labels].astype(float)))
    odds = [abs(log_odds(a, k) - log_odds(e, k)) for a, e, k in zip(adapter, export, labels, strict=True)]
    agreement, interval = share(len(labels) - len(differing), len(labels))
    return Parity(
        runtime=runtime,
        rows=len(labels),
        agreement=agreement,
        agreement_ci95=interval,
        differing=differing.tolist(),
        max_probability=float(difference.max()),
        mean_probability=float(difference.mean()),
        max_log_odds=float(max(odds)),
    )


def check(parity: Parity, dtype: str) -> None:
    """Raises ArtifactError for an export that decides otherwise too often."""
    if parity.agreement < LEAST_AGREEMENT:
        raise ArtifactError(
            "导出的模型与适配器不一致，没有留下它",
            expected=f"至少 {LEAST_AGREEMENT:.1%} 的判断相同",
            found=parity.line(),
            todo="用 --dtype fp32 导出。" if dtype != "fp32" else "这是程序错误，请报告这条消息。",
        )
