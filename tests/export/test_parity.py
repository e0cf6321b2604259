"""What is compared, recomputed by hand; where an export is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zhsenti.core.errors import ArtifactError
from zhsenti.export.base import Reloaded
from zhsenti.export.parity import LEAST_AGREEMENT, compare, describe, refuse_difference, score_rows

NAMES = [f"test:{i}" for i in range(2000)]


def log_probs(rows):
    """Rows of logits as normalised float32 log-probabilities."""
    values = np.array(rows, dtype=np.float64)
    values -= values.max(axis=1, keepdims=True)
    return (values - np.log(np.exp(values).sum(axis=1, keepdims=True))).astype(np.float32)


@st.composite
def pairs(draw):
    """Two (N, C) sets of log-probabilities, the second one near the first, far from it, or the same."""
    n, classes = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    logit = st.floats(-30, 30, width=32)
    rows = draw(st.lists(st.lists(logit, min_size=classes, max_size=classes), min_size=n, max_size=n))
    moved = [[value + draw(st.sampled_from([0.0, 1e-3, -0.5, 7.0])) for value in row] for row in rows]
    return log_probs(rows), log_probs(moved)


@settings(deadline=None)
@given(pairs())
def test_compare_is_the_naive_count(pair):
    reference, found = pair
    gaps, odds, other = [], [], []
    for i, (before, after) in enumerate(zip(reference.tolist(), found.tolist(), strict=True)):
        if before.index(max(before)) != after.index(max(after)):
            other.append(NAMES[i])
        gaps += [abs(math.exp(q) - math.exp(p)) for p, q in zip(before, after, strict=True)]
        odds += [
            abs((after[j] - after[k]) - (before[j] - before[k])) for j in range(len(before)) for k in range(len(before))
        ]
    result = compare(reference, found, NAMES[: len(reference)])
    assert (result.n, result.disagreeing) == (len(reference), other)
    assert result.agreement == pytest.approx(1 - len(other) / len(reference))
    assert result.agreement_ci95[0] <= result.agreement <= result.agreement_ci95[1]
    assert result.max_probability_difference == pytest.approx(max(gaps), abs=1e-12)
    assert result.mean_probability_difference == pytest.approx(sum(gaps) / len(gaps), abs=1e-12)
    assert result.max_log_odds_difference == pytest.approx(max(odds), abs=1e-9)


def with_wrong(n, wrong):
    """Parity of n rows of which the first ``wrong`` changed their label."""
    reference = log_probs([[1.0, 0.0]] * n)
    found = reference.copy()
    found[:wrong] = found[:wrong, ::-1]
    return compare(reference, found, NAMES[:n])


@settings(deadline=None)
@given(n=st.integers(1, 2000), wrong=st.integers(0, 20))
@example(n=200, wrong=1)  # 99.5 % itself
@example(n=199, wrong=1)  # just under
@example(n=1000, wrong=5)
@example(n=1000, wrong=6)
@example(n=50, wrong=0)
def test_refused_is_what_lies_under_the_least_agreement_and_nothing_else(n, wrong):
    assert LEAST_AGREEMENT == 0.995
    wrong = min(wrong, n)
    result = with_wrong(n, wrong)
    assert result.disagreeing == NAMES[:wrong]
    if 1000 * (n - wrong) < 995 * n:
        with pytest.raises(ArtifactError, match="不一致"):
            refuse_difference(result)
    else:
        refuse_difference(result)


def test_the_refusal_counts_and_names_rows_but_does_not_list_hundreds():
    with pytest.raises(ArtifactError) as caught:
        refuse_difference(with_wrong(100, 3))
    for part in ("100 条中标签相同的 97.00%", "至少 99.5%", "test:0、test:1、test:2", "--dtype fp32"):
        assert part in str(caught.value)
    assert "test:2 等" not in str(caught.value)
    with pytest.raises(ArtifactError, match=r"test:7 等") as caught:
        refuse_difference(with_wrong(100, 9))
    assert "test:8" not in str(caught.value)


def test_describe_shows_what_differs():
    shown = describe(compare(log_probs([[0.0, 0.0]] * 4), log_probs([[0.2, 0.0]] + [[0.0, 0.0]] * 3), NAMES[:4]))
    for part in ("4 条", "100.00%", "概率最多差 0.0498", "平均差 0.01246", "对数几率最多差 0.200"):
        assert part in shown


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_and_counted(value):
    reference = log_probs([[1.0, 0.0]] * 5)
    found = reference.copy()
    found[1, 0] = found[3, 1] = value
    with pytest.raises(ArtifactError, match=r"不是[\s\S]*数[\s\S]*2 条[\s\S]*fp32"):
        compare(reference, found, NAMES[:5])


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ArtifactError):
        compare(log_probs([[1.0, 0.0]] * 5), log_probs([[1.0, 0.0, 0.0]] * 5), NAMES[:5])


@settings(deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=30))
def test_rows_are_scored_in_batches_and_come_back_in_their_order(lengths):
    batches, done = [], []

    def score(rows):
        batches.append(rows)
        return np.array([[len(ids), ids[0]] for ids in rows], dtype=np.float32)

    rows = [[number] * length for number, length in enumerate(lengths)]
    found = score_rows(Reloaded("fake", score), rows, 2, done.append)
    np.testing.assert_array_equal(found, [[length, number] for number, length in enumerate(lengths)])
    assert done == [len(batch) for batch in batches]
    assert sum(done) == len(rows)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 1024 for batch in batches)


def test_parity_goes_on_in_smaller_passes(capsys):
    held = []

    def score(rows):
        if sum(map(len, rows)) > 300:
            raise RuntimeError("CUDA out of memory.")
        held.append(len(rows))
        return np.array([[len(ids), ids[0]] for ids in rows], dtype=np.float32)

    rows, done = [[number] * 50 for number in range(60)], []
    found = score_rows(Reloaded("fake", score), rows, 2, done.append)
    np.testing.assert_array_equal(found, [[50, number] for number in range(60)])
    assert sum(done) == sum(held) == 60
    assert max(held) == 5  # 256 tokens
    assert capsys.readouterr().err.count("内存不足") == 1
