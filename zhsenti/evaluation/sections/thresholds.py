"""What a threshold on confidence buys: the machine decides above it, a person below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from zhsenti.evaluation.metrics import Estimate, proportion, share
from zhsenti.evaluation.schema import Interval, Model

COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)

Judged = tuple[np.ndarray, np.ndarray]  # (N,) probability of the predicted label, (N,) whether it is right


class CoveragePoint(Model):
    """The most confident rows, which the machine decides.

    Attributes:
        coverage: Their share of all rows.
        threshold: The least confidence among them.
        n: Their number.
        accuracy: Share of them that are judged rightly.
        accuracy_ci95: Its Wilson interval.
    """

    coverage: float
    threshold: float
    n: int
    accuracy: float
    accuracy_ci95: Interval


class Target(Model):
    """A threshold on confidence, chosen on dev, and what it gives on test rows.

    Attributes:
        precision: What is wanted of the rows above the threshold.
        threshold: None where there is none that gives it on dev.
        outcome: reached: test's precision is at the target; near: below it, but within its interval; missed: below it;
            unreachable: no threshold on dev reaches it; unknown: too few dev rows to tell.
        n_dev_accepted: Dev rows above the threshold.
        dev_precision: Share of them that are judged rightly.
        dev_precision_ci95: Its Wilson interval.
        n_accepted: Test rows above the threshold.
        test_precision: Share of them that are judged rightly.
        test_precision_ci95: Its Wilson interval.
        to_person: Share of test rows under the threshold.
        note: What is wrong, if anything is (Chinese).
    """

    precision: float
    threshold: float | None
    outcome: Literal["reached", "near", "missed", "unreachable", "unknown"]
    n_dev_accepted: int
    dev_precision: float | None
    dev_precision_ci95: Interval | None
    n_accepted: int
    test_precision: float | None
    test_precision_ci95: Interval | None
    to_person: float | None
    note: str = ""


def coverage_curve(
    confidence: np.ndarray, right: np.ndarray, shares: Sequence[float] = COVERAGES
) -> list[CoveragePoint]:
    """What is right among the most confident rows.

    Args:
        confidence: Probability of each row's predicted label, (N,).
        right: Whether it is right, (N,).
        shares: Shares of rows that the machine decides.

    Returns:
        A point for each share.
    """
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


def target(precision: float, dev: Judged, test: Judged) -> Target:
    """Choose the lowest threshold at which dev rows are right at ``precision``, and see what it gives on test.

    The threshold is chosen on dev alone, so test checks it. Fewer than 1 / (1 - precision) rows cannot show such a
    precision: without one error expected, luck looks the same.

    Args:
        precision: The share of rows above the threshold that must be right.
        dev: Confidence and rightness of the rows to choose on.
        test: The same of the rows to check on.
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
