"""Slices of the test rows: where the adapter is worse than elsewhere, by more than chance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from zhsenti.evaluation.compare import holm
from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Interval, Model

SMALL_SLICE = 10  # rows: below it a slice's accuracy says nothing


class Slice(Model):
    """The rows whose ``column`` is ``value``.

    Attributes:
        column: A column of the file, the text's length, or what the data set's keywords tell.
        value: One of its values, or a name for several that have few rows each.
        n: Rows.
        accuracy: Share of them that are judged rightly.
        accuracy_ci95: Its Wilson interval.
        p_holm: Of Fisher's exact test against the rows of the other values, after Holm's correction over all slices;
            None for a column's only value.
        worse: Whether p_holm < 0.05 and the slice is less accurate than the others.
    """

    column: str
    value: str
    n: int
    accuracy: float
    accuracy_ci95: Interval
    p_holm: float | None
    worse: bool


def slices(right: np.ndarray, columns: Mapping[str, Sequence[str]]) -> list[Slice]:
    """Accuracy by the values of each column.

    Args:
        right: For each row whether it was judged rightly, (N,).
        columns: Name -> each row's value.

    Returns:
        The slices: ranges of numbers by size, other values by rows; those with few rows are pooled.
    """
    from scipy.stats import fisher_exact

    measured: list[tuple[str, str, np.ndarray, bool, int | None]] = []
    p_values: list[float] = []
    for column, values in columns.items():
        for value, mask in _masks(values).items():
            hits, n = int(right[mask].sum()), int(mask.sum())
            others, rest = int(right[~mask].sum()), int((~mask).sum())
            if rest:
                p_values.append(float(fisher_exact([[hits, n - hits], [others, rest - others]]).pvalue))
            is_less = rest > 0 and hits / n < others / rest
            measured.append((column, value, mask, is_less, len(p_values) - 1 if rest else None))
    corrected = holm(p_values)
    results = []
    for column, value, mask, is_less, place in measured:
        accuracy, ci95 = share(int(right[mask].sum()), int(mask.sum()))
        p_holm = None if place is None else corrected[place]
        results.append(
            Slice(
                column=column,
                value=value,
                n=int(mask.sum()),
                accuracy=accuracy,
                accuracy_ci95=ci95,
                p_holm=p_holm,
                worse=is_less and p_holm is not None and p_holm < 0.05,
            )
        )
    return results


def _masks(values: Sequence[str]) -> dict[str, np.ndarray]:
    """Name of a slice -> which rows are in it."""
    counts = Counter(values)
    kept = sorted(
        (value for value, n in counts.items() if n >= SMALL_SLICE),
        key=lambda value: (_leading_number(value), -counts[value], value),
    )
    masks = {value or "（空）": np.array([v == value for v in values]) for value in kept}
    if len(kept) < len(counts):
        taken = np.any([*masks.values(), np.zeros(len(values), dtype=bool)], axis=0)
        masks[f"其余（各不足 {SMALL_SLICE} 条）"] = ~taken
    return masks


def _leading_number(value: str) -> float:
    digits = re.match(r"\d+", value)
    return float(digits[0]) if digits else float("inf")
