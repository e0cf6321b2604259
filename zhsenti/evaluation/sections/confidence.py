"""Can a probability be believed? Calibration error, temperature scaling, and what a threshold on confidence buys.

Confidence is the probability of the predicted label. Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zhsenti.evaluation.metrics import Estimate, proportion, share
from zhsenti.evaluation.schema import Bin, CoveragePoint, Interval, Quality, Target
from zhsenti.prediction.temperature import LOG_FLOOR

BINS = 15
RESAMPLES = 1000
MIN_ROWS = 50  # below it a temperature is noise
MIN_ERRORS = 5
TEMPERATURES = (0.05, 20.0)
COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Temperature:
    """``value`` 1.0 and a ``reason`` (Chinese) where it could not be fitted."""

    value: float
    ci95: Interval | None
    n: int
    reason: str = ""


def fit_temperature(true: np.ndarray, log_probs: np.ndarray, *, seed: int = 42) -> Temperature:
    """The T that makes the mean negative log-likelihood of ``true`` (N,) smallest, with a bootstrap interval over rows.

    The likelihood is convex in 1/T, so a bounded search finds the one minimum. Not fitted on fewer than 50 rows or
    five errors: with hardly an error T would go to zero, which is certainty nobody has.
    """
    true, errors = np.asarray(true), int((log_probs.argmax(axis=1) != true).sum()) if len(true) else 0
    if len(true) < MIN_ROWS or errors < MIN_ERRORS:
        found = f"可用的验证数据 {len(true)} 条、其中判错 {errors} 条"
        reason = f"{found}，不足以拟合温度（至少 {MIN_ROWS} 条、{MIN_ERRORS} 条判错）"
        return Temperature(1.0, None, len(true), reason)
    value = _best_temperature(true, log_probs)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(200):
        rows = rng.integers(0, len(true), len(true))
        draws.append(_best_temperature(true[rows], log_probs[rows]))
    low, high = np.percentile(draws, [2.5, 97.5])
    reason = (
        "温度到了搜索范围的边界，概率不可信" if value < 1.01 * TEMPERATURES[0] or value > 0.99 * TEMPERATURES[1] else ""
    )
    return Temperature(value, (float(low), float(high)), len(true), reason)


def _best_temperature(true: np.ndarray, log_probs: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    logits = np.maximum(np.asarray(log_probs, dtype=np.float64), LOG_FLOOR)
    of_true = logits[np.arange(len(true)), true]

    def loss(inverse: float) -> float:
        return float(np.mean(np.logaddexp.reduce(inverse * logits, axis=1) - inverse * of_true))

    bounds = (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
    return float(1 / minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def quality(true: np.ndarray, log_probs: np.ndarray, *, seed: int = 42) -> Quality:
    """Calibration of N >= 1 rows. ``log_probs`` (N, C) sum to one in probability.

    ECE is biased upwards, and once more in resampled rows, so its interval is the basic bootstrap's, which takes the
    second bias off: [2 ECE - q97.5, 2 ECE - q2.5], at least [0, ECE]. What the first one amounts to is ece_chance
    (consistency resampling, Bröcker & Smith 2007): labels drawn anew with the probabilities that were given.
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    probs = np.exp(log_probs)
    confidence, right = probs.max(axis=1), log_probs.argmax(axis=1) == true
    one_hot = np.eye(probs.shape[1])[true]
    rng = np.random.default_rng(seed)
    value, draws, chance = ece(confidence, right), [], []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(right), len(right))
        draws.append(ece(confidence[rows], right[rows]))
        chance.append(ece(confidence, rng.random(len(right)) < confidence))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Quality(
        ece=value,
        ece_ci95=(max(0.0, float(2 * value - high)), max(value, float(2 * value - low))),
        ece_chance=(float(np.mean(chance)), float(np.percentile(chance, 95))),
        brier=float(((probs - one_hot) ** 2).sum(axis=1).mean()),
        log_loss=float(-np.maximum(log_probs[np.arange(len(right)), true], LOG_FLOOR).mean()),
        mean_confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        bins=_bins(confidence, right),
    )


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error with equal-mass bins (Nixon et al. 2019, arXiv:1904.01685): rows in order of
    confidence, cut into ``bins`` parts of like size; sum over parts of n/N |accuracy - mean confidence|."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return float(sum(abs(confidence[part].sum() - right[part].sum()) for part in parts) / len(right))


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    found = []
    for part in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        if not len(part):
            continue
        accuracy, ci95 = share(int(right[part].sum()), len(part))
        inside = confidence[part]
        found.append(
            Bin(
                n=len(part),
                low=float(inside.min()),
                high=float(inside.max()),
                confidence=float(inside.mean()),
                accuracy=accuracy,
                accuracy_ci95=ci95,
            )
        )
    return found


def coverage_curve(
    confidence: np.ndarray, right: np.ndarray, shares: Sequence[float] = COVERAGES
) -> list[CoveragePoint]:
    """What is right among the most confident rows, for each share of rows that the machine decides."""
    order = np.argsort(-confidence, kind="stable")
    points = []
    for part_decided in shares:
        n = max(1, round(part_decided * len(order)))
        part = order[:n]
        accuracy, ci95 = share(int(right[part].sum()), n)
        points.append(
            CoveragePoint(
                coverage=n / len(order),
                threshold=float(confidence[part[-1]]),
                n=n,
                accuracy=accuracy,
                accuracy_ci95=ci95,
            )
        )
    return points


def target(precision: float, dev: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Target:
    """The lowest threshold at which dev rows are right at ``precision``, and what it gives on test.

    ``dev`` and ``test`` are (confidence, right). The threshold is chosen on dev alone, so test checks it. Fewer than
    1 / (1 - precision) rows cannot show such a precision: without one error expected, luck looks the same.
    """
    confidence, right = dev
    order = np.argsort(-confidence, kind="stable")
    needed = min_accepted(precision)
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # A cut between two rows of the same confidence cannot be made with a threshold.
    last_of_tie = np.append(confidence[order][1:] < confidence[order][:-1], True)[: len(order)]
    good = np.flatnonzero((precisions >= precision) & last_of_tie & (np.arange(1, len(order) + 1) >= needed))
    if not len(good):
        few = len(order) < needed
        why = "，太少，说不准" if few else f"，没有哪个阈值能让至少 {needed} 条达到 {100 * precision:g} %"
        return Target(
            precision=precision,
            threshold=None,
            outcome="unknown" if few else "unreachable",
            n_dev_accepted=0,
            dev_precision=None,
            dev_precision_ci95=None,
            n_accepted=0,
            test_precision=None,
            test_precision_ci95=None,
            to_person=None,
            note=f"干净的验证数据有 {len(order)} 条{why}",
        )
    k = int(good[-1])
    threshold = float(confidence[order][k])
    dev_precision, dev_ci95 = share(int(right[order][: k + 1].sum()), k + 1)
    accepted = test[0] >= threshold
    estimate = proportion(int(test[1][accepted].sum()), int(accepted.sum()))
    outcome, note = _outcome(precision, estimate)
    return Target(
        precision=precision,
        threshold=threshold,
        outcome=outcome,
        n_dev_accepted=k + 1,
        dev_precision=dev_precision,
        dev_precision_ci95=dev_ci95,
        n_accepted=int(accepted.sum()),
        test_precision=estimate.value,
        test_precision_ci95=estimate.ci95,
        to_person=float(1 - accepted.mean()),
        note=note,
    )


def min_accepted(precision: float) -> int:
    """Dev rows that must pass a threshold before its precision is believed."""
    return max(30, round(1 / max(1 - precision, 1e-3)))


def _outcome(precision: float, estimate: Estimate) -> tuple[Literal["reached", "near", "missed", "unknown"], str]:
    if estimate.value is None or estimate.ci95 is None:
        return "unknown", "测试数据里没有一条过线"
    if estimate.value >= precision:
        return "reached", ""
    if estimate.ci95[1] >= precision:
        return "near", "测试数据上略低于目标，在误差之内"
    return "missed", "测试数据上没有达到目标：验证数据选出的阈值偏低"
