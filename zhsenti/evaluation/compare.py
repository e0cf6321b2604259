"""All systems on the same rows: each one's scores, which differences between two are real, and slices of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from zhsenti.evaluation.baselines import System
from zhsenti.evaluation.metrics import compute_metrics, share
from zhsenti.evaluation.schema import Difference, Pair, Scores, Slice, SystemScores
from zhsenti.evaluation.scoring import EvalRows, Scored, score_progress, score_rows

RESAMPLES = 10_000
SMALL_SLICE = 10  # rows: below it a slice's accuracy says nothing


@dataclass(frozen=True)
class Compared:
    """``scored``: name -> log-probabilities of the systems that apply;  ``pairs`` of those, in the table's order."""

    systems: list[SystemScores]
    scored: dict[str, Scored]
    pairs: list[Pair]


def compare(systems: Sequence[System], rows: EvalRows, cache_dir: Path, *, seed: int = 42) -> Compared:
    """Score every system on the same rows (cached chunks are not computed again), measure it and compare all pairs."""
    results, scored = [], {}
    with score_progress() as progress:
        for system in systems:
            if system.not_applicable:
                notes = [f"不适用：{system.not_applicable}"]
                results.append(SystemScores(name=system.name, title=system.title, method=system.method, notes=notes))
                continue
            scored[system.name] = score_rows(system, rows, cache_dir, progress)
            results.append(_measure(system, scored[system.name], rows, seed))
    true, clean = np.array([row.label for row in rows.examples]), np.array(rows.leak_free, dtype=bool)
    right = {name: item.log_probs.argmax(axis=1) == true for name, item in scored.items()}
    contaminated = {system.name for system in systems if system.contaminated}
    return Compared(results, scored, compare_pairs(right, clean, contaminated, seed=seed))


def _measure(system: System, scored: Scored, rows: EvalRows, seed: int) -> SystemScores:
    true, clean = np.array([row.label for row in rows.examples]), np.array(rows.leak_free, dtype=bool)

    def metrics(mask: np.ndarray) -> Scores | None:
        if not mask.any():
            return None
        gives_scores = system.gives_scores
        return compute_metrics(rows.labels, true[mask], scored.log_probs[mask], gives_scores=gives_scores, seed=seed)

    return SystemScores(
        name=system.name,
        title=system.title,
        method=system.method,
        official=metrics(np.ones(len(true), dtype=bool)),
        leak_free=metrics(clean),
        seconds=round(scored.seconds, 3),
        prepare_seconds=round(scored.prepare_seconds, 3),
        rows_per_second=round(len(true) / max(scored.seconds, 1e-6), 2),
        contaminated=system.contaminated,
        notes=[*system.notes, *scored.notes, *([] if clean.any() else ["每条测试数据的文本都在训练数据里"])],
    )


def compare_pairs(
    right: Mapping[str, np.ndarray], leak_free: np.ndarray, contaminated: set[str], *, seed: int = 42
) -> list[Pair]:
    """Every two systems; ``right[name]`` (N,) says which rows it judged rightly.

    p-values of the official rows are corrected for the number of pairs by Holm's step-down method (Holm 1979).
    """
    names = list(combinations(right, 2))
    whole = [paired_difference(right[a], right[b], seed=seed) for a, b in names]
    corrected = holm([item.p_value for item in whole])
    pairs = []
    for (a, b), item, p_holm in zip(names, whole, corrected, strict=True):
        clean = paired_difference(right[a][leak_free], right[b][leak_free], seed=seed) if leak_free.any() else None
        pairs.append(
            Pair(
                **item.model_dump(),
                a=a,
                b=b,
                p_holm=p_holm,
                real=p_holm < 0.05,
                contaminated=bool(contaminated & {a, b}),
                leak_free=clean,
            )
        )
    return pairs


def paired_difference(right_a: np.ndarray, right_b: np.ndarray, *, seed: int = 42) -> Difference:
    """Accuracy of a minus accuracy of b on the same N >= 1 rows.

    p: exact McNemar test (McNemar 1947), two-sided binomial over the rows that only one gets right. Interval: paired
    percentile bootstrap over rows; drawing rows with replacement is a multinomial draw over (only a, only b, same).
    Where the two never differ no resample can, so the interval is what N rows without a difference leave possible.
    """
    from scipy.stats import binomtest

    n = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        possible = 1 - 0.05 ** (1 / n)
        return Difference(n=n, difference=0.0, ci95=(-possible, possible), p_value=1.0, only_a=0, only_b=0)
    p_value = float(binomtest(only_a, only_a + only_b, 0.5).pvalue)
    cells = np.array([only_a, only_b, n - only_a - only_b]) / n
    draws = np.random.default_rng(seed).multinomial(n, cells, size=RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / n, [2.5, 97.5])
    difference = (only_a - only_b) / n
    return Difference(
        n=n, difference=difference, ci95=(float(low), float(high)), p_value=p_value, only_a=only_a, only_b=only_b
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def slices(right: np.ndarray, columns: Mapping[str, Sequence[str]]) -> list[Slice]:
    """Accuracy by the values of each column, values in the order of their first row, small ones together as 其余."""
    results = []
    for column, values in columns.items():
        counts = Counter(values)
        kept = {value for value, count in counts.items() if count >= SMALL_SLICE}
        named = np.array([value if value in kept else "其余" for value in values], dtype=object)
        for value in [*(v for v in counts if v in kept), *(["其余"] if len(kept) < len(counts) else [])]:
            mask = named == value
            n = int(mask.sum())
            accuracy, ci95 = share(int(right[mask].sum()), n)
            results.append(Slice(column=column, value=value, n=n, accuracy=accuracy, accuracy_ci95=ci95))
    return results
