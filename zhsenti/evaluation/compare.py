"""All systems on the same rows: each one's scores, and which differences between two are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from zhsenti.core.console import Progress
from zhsenti.evaluation.metrics import compute_metrics
from zhsenti.evaluation.schema import FORMAT, Interval, Model, Provenance, Scores, SystemScores
from zhsenti.evaluation.scoring import EvalRows, Scored, score_rows
from zhsenti.evaluation.systems import ADAPTER, System

RESAMPLES = 10_000


class Difference(Model):
    """Accuracy of a minus accuracy of b on the same n rows.

    Attributes:
        n: Rows.
        difference: The difference.
        ci95: Its paired bootstrap interval.
        p_value: Of the exact McNemar test.
        only_a: Rows that a alone judges rightly.
        only_b: Rows that b alone judges rightly.
    """

    n: int
    difference: float
    ci95: Interval
    p_value: float
    only_a: int
    only_b: int

    def turned(self) -> Self:
        """The same seen from b."""
        low, high = self.ci95
        update = {
            "difference": -self.difference,
            "ci95": (-high, -low),
            "only_a": self.only_b,
            "only_b": self.only_a,
        }
        return self.model_copy(update=update)


class Pair(Difference):
    """Two systems on the official rows; ``leak_free`` says the same of the clean ones.

    Attributes:
        a: Name of one system.
        b: Name of the other.
        basis: Which rows decide: the clean ones where there are any.
        p_holm: The p-value on those, after Holm's correction over all pairs.
        real: Whether p_holm < 0.05.
        contaminated: Whether one of the two has test rows among its training texts.
        leak_free: The difference on the clean rows; None where there are none.
    """

    a: str
    b: str
    basis: Literal["official", "leak_free"]
    p_holm: float
    real: bool
    contaminated: bool
    leak_free: Difference | None

    def turned(self) -> Self:
        """The same seen from b."""
        leak_free = self.leak_free.turned() if self.leak_free else None
        return super().turned().model_copy(update={"a": self.b, "b": self.a, "leak_free": leak_free})

    @property
    def decisive(self) -> Difference:
        """The difference on the rows that decide."""
        return self.leak_free if self.basis == "leak_free" and self.leak_free else self

    def readable(self) -> Self:
        """With the adapter under test first where it takes part, else the better system."""
        first = self.a == ADAPTER or (self.b != ADAPTER and self.decisive.difference >= 0)
        return self if first else self.turned()


class ComparisonFile(Model):
    """baseline_comparison.json: all systems on the same rows, and every two of them."""

    format: int = FORMAT
    labels: list[str]
    n_official: int
    n_leak_free: int
    systems: list[SystemScores]
    pairs: list[Pair] = Field(default_factory=list)
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Compared:
    """What a comparison gives.

    Attributes:
        systems: All of them, also those that do not apply.
        scored: Name -> log-probabilities of those that apply.
        pairs: Every two of those, in the table's order.
    """

    systems: list[SystemScores]
    scored: dict[str, Scored]
    pairs: list[Pair]


def compare(systems: Sequence[System], rows: EvalRows, cache_dir: Path, *, seed: int = 42) -> Compared:
    """Score every system on the same rows, measure it, and compare all pairs.

    Args:
        systems: In the table's order.
        rows: What they are scored on.
        cache_dir: Scores found there are not computed again.
        seed: Of every bootstrap.

    Raises:
        ModelError: A system gave something that is not a finite number.
    """
    results, scored = [], {}
    with Progress() as progress:
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
    """Compare every two systems.

    The leak-free rows decide where there are any: on the others an adapter may know its training texts by heart.
    p-values are corrected for the number of pairs by Holm's step-down method (Holm 1979).

    Args:
        right: Name of a system -> which rows it judged rightly, (N,).
        leak_free: Which rows are clean, (N,).
        contaminated: Names of systems that have test rows among their training texts.
        seed: Of the bootstrap.
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

    Args:
        right_a: Which rows a judged rightly, (N,).
        right_b: Which rows b judged rightly, (N,).
        seed: Of the bootstrap.
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
