"""Scores of one system on one set of rows; every estimate carries its 95 % interval or the reason it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zhsenti.core.intervals import wilson
from zhsenti.evaluation.schema import ClassScores, Interval, Scores
from zhsenti.prediction.temperature import log_odds

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A share or an area, with its 95 % interval.

    Attributes:
        value: In [0, 1]; None where it is undefined.
        ci95: None where there is none.
        reason: Why one of them is None (Chinese).
    """

    value: float | None
    ci95: Interval | None = None
    reason: str = ""


def compute_metrics(
    labels: Sequence[str], true: np.ndarray, log_probs: np.ndarray, *, gives_scores: bool = True, seed: int = 42
) -> Scores:
    """Metrics of N >= 1 rows. The first of equally likely labels counts as predicted.

    Args:
        labels: C names, in order.
        true: Classes, (N,).
        log_probs: Class log-probabilities, (N, C), in label order.
        gives_scores: Whether the system's probabilities rank rows; without that ROC-AUC is not defined.
        seed: Of the bootstrap.

    Raises:
        ValueError: The shapes do not fit, or a class is none of the labels.
    """
    from sklearn.metrics import confusion_matrix

    true, log_probs = np.asarray(true), np.asarray(log_probs, dtype=np.float64)
    if len(true) == 0 or log_probs.shape != (len(true), len(labels)) or not len(labels) > true.max() >= true.min() >= 0:
        raise ValueError(f"labels {len(labels)}, true {true.shape}, log_probs {log_probs.shape} do not fit")
    matrix = confusion_matrix(true, log_probs.argmax(axis=1), labels=list(range(len(labels))))
    accuracy, accuracy_ci95 = share(int(np.trace(matrix)), len(true))
    macro_f1 = _macro_f1(matrix, seed)
    assert macro_f1.value is not None  # n >= 1
    no_auc = Estimate(None, reason="该系统不给出可排序的分数")
    area = roc_auc(labels, true, log_probs) if gives_scores else no_auc
    classes, reasons = [], {"macro_f1": macro_f1.reason, "roc_auc": area.reason}
    for k, label in enumerate(labels):
        scores, class_reasons = _class_scores(label, k, matrix)
        classes.append(scores)
        reasons |= class_reasons
    return Scores(
        n=len(true),
        accuracy=accuracy,
        accuracy_ci95=accuracy_ci95,
        macro_f1=macro_f1.value,
        macro_f1_ci95=macro_f1.ci95,
        roc_auc=area.value,
        roc_auc_ci95=area.ci95,
        classes=classes,
        confusion=matrix.tolist(),
        reasons={name: reason for name, reason in reasons.items() if reason},
    )


def proportion(successes: int, trials: int, reason: str = "没有可计的行") -> Estimate:
    """A share and its Wilson interval.

    Args:
        successes: How many of the trials.
        trials: How many there were.
        reason: What the estimate says where there were none (Chinese).
    """
    if trials == 0:
        return Estimate(None, reason=reason)
    return Estimate(successes / trials, wilson(successes, trials))


def share(hits: int, n: int) -> tuple[float, Interval]:
    """The share ``hits`` / ``n`` and its Wilson interval.

    Raises:
        ValueError: ``n`` is 0.
    """
    estimate = proportion(hits, n)
    if estimate.value is None or estimate.ci95 is None:
        raise ValueError("a share of no rows")
    return estimate.value, estimate.ci95


def _class_scores(label: str, k: int, matrix: np.ndarray) -> tuple[ClassScores, dict[str, str]]:
    hits, support, predicted = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
    precision = proportion(hits, predicted, f"没有一行被判为“{label}”")
    recall = proportion(hits, support, f"测试数据里没有“{label}”")
    scores = ClassScores(
        label=label,
        support=support,
        predicted=predicted,
        precision=precision.value,
        precision_ci95=precision.ci95,
        recall=recall.value,
        recall_ci95=recall.ci95,
    )
    return scores, {f"precision {label}": precision.reason, f"recall {label}": recall.reason}


def _macro_f1(matrix: np.ndarray, seed: int) -> Estimate:
    """Percentile bootstrap over rows. Drawing n rows with replacement is a multinomial draw over the matrix cells."""
    n, classes = int(matrix.sum()), len(matrix)
    draws = np.random.default_rng(seed).multinomial(n, matrix.ravel() / n, size=RESAMPLES)
    resampled = _f1_of(draws.reshape(RESAMPLES, classes, classes))
    value = float(_f1_of(matrix[None])[0])
    if resampled.min() == resampled.max():  # all right or all wrong: no resample can differ, which is not certainty
        return Estimate(value, reason="全对或全错，自助法区间退化")
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, (float(low), float(high)))


def _f1_of(matrices: np.ndarray) -> np.ndarray:
    """Macro-F1 of each (B, C, C) confusion matrix, over the classes that are true or predicted somewhere in it.

    The same convention as sklearn's ``f1_score(average="macro")`` without ``labels``.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    marks = matrices.sum(axis=1) + matrices.sum(axis=2)  # predicted + support; F1 = 2 TP / (predicted + support)
    seen = marks > 0
    f1 = np.where(seen, 2 * hits / np.where(seen, marks, 1), 0.0)
    return f1.sum(axis=1) / seen.sum(axis=1)


def roc_auc(labels: Sequence[str], true: np.ndarray, log_probs: np.ndarray) -> Estimate:
    """ROC-AUC of the last label (C = 2) or macro one-vs-rest (C > 2), with DeLong's interval.

    DeLong, DeLong & Clarke-Pearson 1988 through midranks (Sun & Xu 2014). For C > 2 the same structural components
    are summed over the one-vs-rest curves row by row before their variance is taken within each true class, so that
    the curves' covariance is counted; for C = 2 this is DeLong's variance exactly.

    Args:
        labels: C names, in order.
        true: Classes, (N,).
        log_probs: Class log-probabilities, (N, C), in label order.
    """
    counts = np.bincount(true, minlength=len(labels))
    missing = [label for label, count in zip(labels, counts, strict=True) if count == 0]
    if missing:
        return Estimate(None, reason=f"测试数据里没有“{'、'.join(missing)}”，AUC 无定义")
    curves = [len(labels) - 1] if len(labels) == 2 else range(len(labels))
    areas, shares = [], np.zeros(len(true))
    for k in curves:
        positive = true == k
        # Log-odds rank rows as p_k does, without the ties it has where float32 rounds it to 1; 9 decimals: equal but
        # for float64 rounding is a tie.
        components = _components(np.round(log_odds(log_probs, k), 9), positive)
        areas.append(components[positive].mean())
        shares += components / np.where(positive, counts[k], len(true) - counts[k])
    area, shares = float(np.mean(areas)), shares / len(areas)
    if counts.min() < 2:
        return Estimate(area, reason="有一类只有一行，无法估计区间")
    variance = sum(count * shares[true == k].var(ddof=1) for k, count in enumerate(counts))
    if variance <= 1e-15:
        return Estimate(area, reason="分数完全分开或完全相同，DeLong 区间退化")
    half = 1.959963984540054 * float(np.sqrt(variance))
    return Estimate(area, (max(0.0, area - half), min(1.0, area + half)))


def _components(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each row the share of opposite rows it is ordered rightly against, ties counting half."""
    from scipy.stats import rankdata

    ranks, wins = rankdata(scores), np.empty(len(scores))
    n_positive = int(positive.sum())
    wins[positive] = (ranks[positive] - rankdata(scores[positive])) / (len(scores) - n_positive)
    wins[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / n_positive
    return wins
