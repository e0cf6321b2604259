"""Calibration against float64 hand checks and scikit-learn's own temperature scaling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhsenti.evaluation.sections.calibration import BINS, ece, fit_temperature, quality
from zhsenti.evaluation.sections.thresholds import coverage_curve, min_accepted, target
from zhsenti.prediction.temperature import scale


def overconfident(n: int, classes: int, seed: int, factor: float = 3.0):
    """Rows whose true probabilities are softmax(logits), shown as softmax(factor x logits)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 1.5
    honest = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    true = np.array([rng.choice(classes, p=np.exp(row)) for row in honest])
    return true, scale(honest, 1 / factor)


def ece_by_hand(confidence, right, bins):
    """Written out row by row in Python's own float64."""
    rows = sorted(zip(confidence.tolist(), right.tolist(), strict=True), key=lambda row: row[0])
    size, larger, total, at = len(rows) // bins, len(rows) % bins, 0.0, 0
    for k in range(bins):
        part = rows[at : at + size + (k < larger)]
        at += len(part)
        if part:
            total += abs(sum(r for _, r in part) / len(part) - sum(c for c, _ in part) / len(part)) * len(part)
    return total / len(rows)


@given(st.integers(1, 300), st.integers(2, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_ece_agrees_with_a_hand_computation(n, classes, seed):
    true, log_probs = overconfident(n, classes, seed)
    confidence, right = np.exp(log_probs).max(axis=1), log_probs.argmax(axis=1) == true
    assert ece(confidence, right) == pytest.approx(ece_by_hand(confidence, right, BINS), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_temperature_agrees_with_scikit_learn(classes, seed):
    from sklearn.calibration import _TemperatureScaling

    true, log_probs = overconfident(400, classes, seed)
    # For two classes scikit-learn takes one decision value d a row and reads it as the logits (-d, d).
    shown = (log_probs[:, 1] - log_probs[:, 0]) / 2 if classes == 2 else log_probs
    beta = _TemperatureScaling().fit(shown, true).beta_
    found = fit_temperature(true, log_probs)
    assert found.value == pytest.approx(1 / beta, rel=2e-3)
    assert found.ci95[0] < found.value < found.ci95[1]


def test_temperature_finds_what_was_done_to_the_scores():
    true, log_probs = overconfident(20_000, 2, 7, factor=2.5)
    found = fit_temperature(true, log_probs)
    assert found.value == pytest.approx(2.5, rel=0.06)
    before, after = quality(true, log_probs), quality(true, scale(log_probs, found.value))
    assert before.ece > 0.08 > 0.02 > after.ece
    assert after.log_loss < before.log_loss
    assert after.brier < before.brier
    assert before.mean_confidence > before.accuracy + 0.05
    assert before.accuracy == after.accuracy


@given(st.floats(0.05, 20), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_scaling_keeps_labels_and_sums_to_one(temperature, seed):
    _, log_probs = overconfident(20, 3, seed)
    scaled = scale(log_probs, temperature)
    assert np.exp(scaled).sum(axis=1) == pytest.approx(1)
    assert (scaled.argmax(axis=1) == log_probs.argmax(axis=1)).all()
    assert scale(scaled, 1 / temperature) == pytest.approx(log_probs, abs=1e-6)


def test_saturated_scores_stay_finite():
    log_probs = np.array([[-1e30, 0.0], [0.0, -np.inf], [-800.0, 0.0]])
    assert np.isfinite(scale(log_probs, 2.0)).all()
    assert np.isfinite(quality(np.array([0, 0, 1]), log_probs).log_loss)


def test_brier_and_log_loss_by_hand():
    log_probs = np.log([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    found = quality(np.array([0, 1, 1]), log_probs)
    assert found.brier == pytest.approx((2 * 0.04 + 2 * 0.09 + 2 * 0.36) / 3)
    assert found.log_loss == pytest.approx(-np.log([0.8, 0.7, 0.4]).mean())
    assert sum(item.n for item in found.bins) == 3


@pytest.mark.parametrize(("n", "errors"), [(10, 5), (200, 2), (0, 0)])
def test_too_little_to_fit_is_said_and_changes_nothing(n, errors):
    true = np.ones(n, dtype=int)
    true[:errors] = 0
    found = fit_temperature(true, np.tile(np.log([0.1, 0.9]), (n, 1)))
    assert (found.value, found.ci95) == (1.0, None)
    assert f"{n} 条" in found.reason


def test_coverage_curve_by_hand():
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    right = np.array([True, False, True, False])
    half, whole = coverage_curve(confidence, right, (0.5, 1.0))
    assert (half.n, half.accuracy, half.threshold) == (2, 1.0, 0.8)
    assert (whole.n, whole.accuracy, whole.threshold) == (4, 0.5, 0.6)


def test_target_takes_the_lowest_threshold_that_reaches_it_on_dev():
    confidence = np.linspace(0.5, 1.0, 400)
    right = confidence > 0.6
    test = (np.array([0.55, 0.65, 0.95]), np.array([False, True, True]))
    found = target(0.99, (confidence, right), test)
    accepted = confidence >= found.threshold
    assert right[accepted].mean() >= 0.99
    assert right[confidence >= found.threshold - 0.003].mean() < 0.99
    assert (found.n_accepted, found.test_precision, found.outcome) == (2, 1.0, "reached")
    assert found.dev_precision_ci95[0] < found.dev_precision
    assert found.to_person == pytest.approx(1 / 3)


def test_a_threshold_never_cuts_between_equal_confidences():
    confidence = np.array([0.9] * 40 + [0.8] * 40)
    right = np.array([True] * 40 + [True] * 20 + [False] * 20)  # taking half of the 0.8s would look perfect
    found = target(0.95, (confidence, right), (confidence, right))
    assert found.threshold == 0.9
    assert found.n_dev_accepted == found.n_accepted == 40


@pytest.mark.parametrize(("n", "outcome"), [(0, "unknown"), (99, "unknown"), (400, "unreachable")])
def test_a_target_out_of_reach_or_beyond_knowing_is_said(n, outcome):
    dev = (np.linspace(0.5, 1, n), np.arange(n) % 2 == 0 if n == 400 else np.ones(n, dtype=bool))
    found = target(0.99, dev, (np.array([0.9]), np.array([True])))
    assert found.threshold is None
    assert found.to_person is None
    assert found.outcome == outcome
    assert f"{n} 条" in found.note


@pytest.mark.parametrize(("precision", "rows"), [(0.9, 30), (0.99, 100), (0.995, 200)])
def test_few_rows_prove_no_high_precision(precision, rows):
    assert min_accepted(precision) == rows


@pytest.mark.parametrize(
    ("wrong", "outcome", "said"), [(0, "reached", ""), (3, "near", "误差之内"), (100, "missed", "没有达到")]
)
def test_test_rows_check_the_threshold(wrong, outcome, said):
    dev = (np.linspace(0.5, 1, 400), np.ones(400, dtype=bool))
    test = (np.full(200, 0.9), np.arange(200) >= wrong)
    found = target(0.99, dev, test)
    assert found.outcome == outcome
    assert said in found.note


def test_the_interval_of_ece_and_what_chance_gives():
    """Perfectly calibrated probabilities: ECE is what chance gives, and its interval reaches down to nearly zero."""
    inside = []
    for seed in range(10):
        true, log_probs = overconfident(600, 2, seed, factor=1.0)
        found = quality(true, log_probs, seed=seed)
        inside.append(found.ece <= found.ece_chance[1])
        assert found.ece_ci95[0] <= found.ece <= found.ece_ci95[1]
        assert found.ece_ci95[0] < 0.6 * found.ece_chance[0]
    assert sum(inside) >= 8
    true, log_probs = overconfident(600, 2, 0, factor=3.0)
    found = quality(true, log_probs)
    assert found.ece > 2 * found.ece_chance[1]
