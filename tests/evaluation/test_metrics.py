"""Metrics against scikit-learn, scipy and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from zhsenti.evaluation.metrics import compute_metrics, roc_auc

TWO, THREE = ("负面", "正面"), ("负面", "中性", "正面")


def random_rows(n: int, classes: int, seed: int = 0, skill: float = 1.0):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + skill * np.eye(classes)[true]
    logits = np.round(logits, 1)  # some ties
    return true, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_values_match_sklearn(labels):
    true, log_probs = random_rows(500, len(labels))
    predicted = log_probs.argmax(axis=1)
    result = compute_metrics(labels, true, log_probs)
    assert result.accuracy == pytest.approx((true == predicted).mean())
    assert result.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
    for k, item in enumerate(result.classes):
        assert item.precision == pytest.approx(precision_score(true, predicted, average=None)[k])
        assert item.recall == pytest.approx(recall_score(true, predicted, average=None)[k])
        assert (item.support, item.predicted) == ((true == k).sum(), (predicted == k).sum())
    probs = np.round(np.exp(log_probs), 10)
    area = roc_auc_score(true, probs[:, 1]) if len(labels) == 2 else roc_auc_score(true, probs, multi_class="ovr")
    assert result.roc_auc == pytest.approx(area, abs=1e-9)


def test_confusion_rows_are_true_columns_predicted():
    log_probs = np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    assert compute_metrics(TWO, np.array([0, 0, 1, 1]), log_probs).confusion == [[1, 1], [1, 1]]
    assert compute_metrics(TWO, np.array([0, 0, 0, 0]), log_probs).confusion == [[2, 2], [0, 0]]


def delong_by_definition(scores, positive):
    wins = (scores[positive][:, None] > scores[~positive]) + 0.5 * (scores[positive][:, None] == scores[~positive])
    m, n = wins.shape
    return wins.mean(), wins.mean(axis=1).var(ddof=1) / m + wins.mean(axis=0).var(ddof=1) / n


def test_delong_matches_its_definition_with_ties():
    true, log_probs = random_rows(200, 2, seed=3)
    area, variance = delong_by_definition(np.round(log_probs[:, 1] - log_probs[:, 0], 9), true == 1)
    estimate = roc_auc(TWO, true, log_probs)
    assert estimate.value == pytest.approx(area)
    assert estimate.ci95[1] - estimate.value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)


def test_three_class_interval_agrees_with_a_row_bootstrap():
    true, log_probs = random_rows(300, 3, seed=5)
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        rows = rng.integers(0, 300, 300)
        areas.append(roc_auc_score(true[rows], np.exp(log_probs[rows]), multi_class="ovr"))
    estimate = roc_auc(THREE, true, log_probs)
    assert (estimate.ci95[1] - estimate.ci95[0]) / 2 == pytest.approx(1.96 * np.std(areas), rel=0.12)


def test_macro_f1_bootstrap_agrees_with_scipy_and_repeats():
    true, log_probs = random_rows(300, 3, seed=1)
    first = compute_metrics(THREE, true, log_probs, seed=7).macro_f1_ci95
    assert first == compute_metrics(THREE, true, log_probs, seed=7).macro_f1_ci95
    assert first != compute_metrics(THREE, true, log_probs, seed=8).macro_f1_ci95
    pairs = (true, log_probs.argmax(axis=1))
    expected = bootstrap(
        pairs, lambda t, p: f1_score(t, p, average="macro"), paired=True, vectorized=False, n_resamples=500,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert first == pytest.approx((expected.low, expected.high), abs=0.012)


def test_one_class_only_gives_reasons_not_zeros():
    log_probs = np.log([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    result = compute_metrics(TWO, np.array([1, 1, 1]), log_probs)
    assert result.accuracy == result.macro_f1 == 1.0
    assert result.accuracy_ci95[0] < 0.5  # three rows prove little
    assert result.roc_auc is None
    assert "负面" in result.reasons["roc_auc"]
    negative = result.classes[0]
    assert negative.precision is None
    assert "负面" in result.reasons["precision 负面"]
    assert negative.recall is None
    assert "没有“负面”" in result.reasons["recall 负面"]


def test_a_third_class_never_seen_does_not_drag_macro_f1():
    true = np.array([0, 2, 0, 2])
    log_probs = np.log([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    result = compute_metrics(THREE, true, log_probs)
    assert result.macro_f1 == pytest.approx(f1_score(true, [0, 2, 2, 2], average="macro"))
    assert result.roc_auc is None


def test_equal_scores_are_half_and_have_no_interval():
    result = compute_metrics(TWO, np.array([0, 1, 0, 1]), np.log(np.full((4, 2), 0.5)))
    assert result.roc_auc == 0.5
    assert result.roc_auc_ci95 is None
    assert result.reasons["roc_auc"]
    assert result.confusion == [[2, 0], [2, 0]]  # a tie goes to the first label


def test_perfect_separation_does_not_claim_certainty():
    log_probs = np.log([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    result = compute_metrics(TWO, np.array([0, 0, 1, 1]), log_probs)
    assert result.accuracy_ci95[0] < 0.6
    for name in ("roc_auc", "macro_f1"):
        assert getattr(result, name) == 1.0
        assert getattr(result, f"{name}_ci95") is None
        assert "退化" in result.reasons[name]


def test_no_scores_no_auc():
    true, log_probs = random_rows(50, 2)
    result = compute_metrics(TWO, true, log_probs, gives_scores=False)
    assert result.roc_auc is None
    assert result.reasons["roc_auc"]


def test_saturated_float32_still_ranks():
    gaps = np.array([20, 25, 30, 35], dtype=np.float32)  # log p(last) rounds to 0 for all four
    log_probs = np.stack([-gaps, np.zeros(4, np.float32)], axis=1)
    assert roc_auc(TWO, np.array([0, 0, 1, 1]), log_probs).value == 1.0


@pytest.mark.parametrize("true", [[], [0, 2], [-1, 0]])
def test_rows_that_do_not_fit_are_a_bug(true):
    with pytest.raises(ValueError, match="do not fit"):
        compute_metrics(TWO, np.array(true, dtype=int), np.zeros((len(true), 2)))
