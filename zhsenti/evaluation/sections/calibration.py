"""Can a probability be believed? Temperature scaling and calibration error.

Confidence is the probability of the predicted label. Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Interval, Model
from zhsenti.prediction.temperature import LOG_FLOOR

BINS = 15
RESAMPLES = 1000
MIN_ROWS = 50  # below it a temperature is noise
MIN_ERRORS = 5
TEMPERATURES = (0.05, 20.0)


class Bin(Model):
    """Rows of neighbouring confidence.

    Attributes:
        n: Rows.
        low: The least confidence among them.
        high: The greatest.
        confidence: Their mean confidence.
        accuracy: Share of them that are judged rightly.
        accuracy_ci95: Its Wilson interval.
    """

    n: int
    low: float
    high: float
    confidence: float
    accuracy: float
    accuracy_ci95: Interval


class Quality(Model):
    """How far probabilities can be believed.

    Attributes:
        ece: Expected calibration error with equal-mass bins.
        ece_ci95: Its bootstrap interval.
        ece_chance: The ECE that chance alone gives perfectly calibrated probabilities like these on as many rows: mean
            and 95 % quantile.
        brier: Brier score over all classes, in [0, 2].
        log_loss: Mean negative log-likelihood in nats.
        mean_confidence: Against accuracy it says in which direction the probabilities are off.
        accuracy: Share of rows that are judged rightly.
        bins: Equal-mass bins in order of confidence.
    """

    ece: float
    ece_ci95: Interval
    ece_chance: tuple[float, float]
    brier: float
    log_loss: float
    mean_confidence: float
    accuracy: float
    bins: list[Bin]


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: What log-probabilities are divided by; 1.0 where it could not be fitted.
        ci95: Its bootstrap interval; None where it could not be fitted.
        n: Rows it was fitted on.
        reason: Why it could not be fitted or is not to be trusted (Chinese).
    """

    value: float
    ci95: Interval | None
    n: int
    reason: str = ""


def fit_temperature(true: np.ndarray, log_probs: np.ndarray, *, seed: int = 42) -> Temperature:
    """Fit the temperature (Guo et al. 2017, arXiv:1706.04599).

    The mean negative log-likelihood is convex in 1/T, so a bounded search finds the one minimum. Nothing is fitted on
    fewer than 50 rows or five errors: with hardly an error T would go to zero, which is certainty nobody has.

    Args:
        true: Classes, (N,).
        log_probs: Class log-probabilities, (N, C).
        seed: Of the bootstrap over rows.
    """
    true, errors = np.asarray(true), int((log_probs.argmax(axis=1) != true).sum()) if len(true) else 0
    if len(true) < MIN_ROWS or errors < MIN_ERRORS:
        available = f"可用的验证数据 {len(true)} 条、其中判错 {errors} 条"
        reason = f"{available}，不足以拟合温度（至少 {MIN_ROWS} 条、{MIN_ERRORS} 条判错）"
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
    """Calibration of N >= 1 rows.

    ECE is biased upwards, and once more in resampled rows, so its interval is the basic bootstrap's, which takes the
    second bias off: [2 ECE - q97.5, 2 ECE - q2.5], at least [0, ECE]. What the first one amounts to is ece_chance
    (consistency resampling, Bröcker & Smith 2007): labels drawn anew with the probabilities that were given.

    Args:
        true: Classes, (N,).
        log_probs: Class log-probabilities, (N, C), which sum to one in probability.
        seed: Of the resampling.
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
    """Expected calibration error with equal-mass bins (Nixon et al. 2019, arXiv:1904.01685).

    Rows in order of confidence are cut into parts of like size; the sum over parts of n/N |accuracy - mean confidence|.

    Args:
        confidence: Probability of each row's predicted label, (N,).
        right: Whether it was right, (N,).
        bins: Number of parts.
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return float(sum(abs(confidence[part].sum() - right[part].sum()) for part in parts) / len(right))


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    bins = []
    for part in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        if not len(part):
            continue
        accuracy, ci95 = share(int(right[part].sum()), len(part))
        inside = confidence[part]
        bins.append(
            Bin(
                n=len(part),
                low=float(inside.min()),
                high=float(inside.max()),
                confidence=float(inside.mean()),
                accuracy=accuracy,
                accuracy_ci95=ci95,
            )
        )
    return bins
