"""All systems on the same rows: each one's scores, which differences between two are real, and slices of the rows."""

from __future__ import annotations

import re
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

    The leak-free rows decide where there are any: on the others an adapter may know its training texts by heart.
    p-values are corrected for the number of pairs by Holm's step-down method (Holm 1979).
    """
    names, any_clean = list(combinations(right, 2)), bool(leak_free.any())
    whole = [paired_difference(right[a], right[b], seed=seed) for a, b in names]
    clean = [
        paired_difference(right[a][leak_free], right[b][leak_free], seed=seed) if any_clean else None for a, b in names
    ]
    corrected = holm([(part or item).p_value for part, item in zip(clean, whole, strict=True)])
    return [
        Pair(
            **item.model_dump(),
            a=a,
            b=b,
            basis="leak_free" if any_clean else "official",
            p_holm=p_holm,
            real=p_holm < 0.05,
            contaminated=bool(contaminated & {a, b}),
            leak_free=part,
        )
        for (a, b), item, part, p_holm in zip(names, whole, clean, corrected, strict=True)
    ]


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
    """Accuracy by the values of each column: ranges of numbers by size, others by rows; small ones pooled."""
    from scipy.stats import fisher_exact

    found, p_values = [], []
    for column, values in columns.items():
        counts = Counter(values)
        kept = sorted(
            (value for value, n in counts.items() if n >= SMALL_SLICE),
            key=lambda value: (_leading_number(value), -counts[value], value),
        )
        masks = {value or "（空）": np.array([v == value for v in values]) for value in kept}
        if len(kept) < len(counts):
            taken = np.any([*masks.values(), np.zeros(len(values), dtype=bool)], axis=0)
            masks[f"其余（各不足 {SMALL_SLICE} 条）"] = ~taken
        for value, mask in masks.items():
            hits, n = int(right[mask].sum()), int(mask.sum())
            others, rest = int(right[~mask].sum()), int((~mask).sum())
            accuracy, ci95 = share(hits, n)
            if rest:
                p_values.append(float(fisher_exact([[hits, n - hits], [others, rest - others]]).pvalue))
            less = rest > 0 and accuracy < others / rest
            found.append((column, value, n, accuracy, ci95, less, len(p_values) - 1 if rest else None))
    corrected = holm(p_values)
    results = []
    for column, value, n, accuracy, ci95, less, place in found:
        p_holm = None if place is None else corrected[place]
        results.append(
            Slice(
                column=column,
                value=value,
                n=n,
                accuracy=accuracy,
                accuracy_ci95=ci95,
                p_holm=p_holm,
                worse=less and p_holm is not None and p_holm < 0.05,
            )
        )
    return results


def _leading_number(value: str) -> float:
    digits = re.match(r"\d+", value)
    return float(digits[0]) if digits else float("inf")
