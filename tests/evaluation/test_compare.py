"""All systems on the same rows: scores, which differences are real, the JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.systems import TASK, adapter, eval_rows
from tests.evaluation.whole import read
from tests.fakes import KeywordPredictor
from zhsenti.data.split import Example
from zhsenti.evaluation.baselines import build_baselines
from zhsenti.evaluation.compare import ComparisonFile, compare, compare_pairs, holm, paired_difference
from zhsenti.evaluation.schema import Provenance, write
from zhsenti.evaluation.systems import Context
from zhsenti.task import SentimentTask


def test_all_systems_side_by_side(tmp_path):
    rows, predictor = eval_rows(), KeywordPredictor()
    train = [Example(f"吃得很好{i}", 1) for i in range(30)] + [Example(f"睡得很差{i}", 0) for i in range(20)]
    context = Context(TASK, train, train[::5], rows.examples, predictor, {"base": "r1"})
    systems = [*build_baselines(["majority", "snownlp", "tfidf", "zero_shot"], context), adapter(predictor)]
    results = {item.name: item for item in compare(systems, rows, tmp_path).systems}
    assert list(results) == ["majority", "snownlp", "tfidf", "zero_shot", "adapter"]
    for item in results.values():
        assert item.official.n == 200
        assert item.leak_free.n == 150
        assert item.rows_per_second > 0
    assert results["adapter"].official.accuracy == 1.0
    assert results["tfidf"].official.accuracy > 0.9
    assert results["majority"].official.confusion == [[0, 100], [0, 100]]
    assert results["majority"].official.roc_auc is None
    assert results["zero_shot"].official.roc_auc == 0.5
    assert not results["snownlp"].contaminated


def test_no_leak_free_row_is_said(tmp_path):
    rows = replace(eval_rows(), leak_free=[False] * 200)
    result = compare([adapter(KeywordPredictor())], rows, tmp_path).systems[0]
    assert result.leak_free is None
    assert "都在训练数据里" in result.notes[-1]


def test_json_round_trip(tmp_path):
    context = Context(SentimentTask(labels=("差", "中", "好")), [], [], [], KeywordPredictor(), {})
    systems = [*build_baselines(["majority", "snownlp"], context), adapter(KeywordPredictor())]
    rows = replace(eval_rows(), leak_free=[False] * 200)
    provenance = Provenance(
        command="命令", date="2026-01-01", model={"path": "x"}, data={"name": "y"}, versions={"torch": "1"}, machine={}
    )
    found = compare(systems, rows, tmp_path)
    comparison = ComparisonFile(
        labels=["负面", "正面"],
        n_official=200,
        n_leak_free=0,
        systems=found.systems,
        pairs=found.pairs,
        provenance=provenance,
        notes=["注"],
    )
    path = tmp_path / "out.json"
    write(path, comparison)
    assert read(path, ComparisonFile) == comparison
    assert "负面" in path.read_text(encoding="utf-8")  # readable, not \\u escapes
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["systems"][0]["official"] is None
    assert "不适用" in values["systems"][0]["notes"][0]
    official = values["systems"][2]["official"]
    assert official["accuracy_ci95"][0] < official["accuracy"] == 1.0
    assert official["reasons"]["roc_auc"]


def test_pairs_are_over_all_systems_that_apply_and_marked(tmp_path):
    rows, predictor = eval_rows(), KeywordPredictor()
    context = Context(TASK, [Example("很好", 1)], [], rows.examples, predictor, {"base": "r1"})
    dirty = replace(build_baselines(["majority"], context)[0], contaminated=True)
    systems = [dirty, *build_baselines(["tfidf", "zero_shot"], context), adapter(predictor)]
    found = compare(systems, rows, tmp_path)
    assert [(pair.a, pair.b) for pair in found.pairs] == [
        ("majority", "zero_shot"), ("majority", "adapter"), ("zero_shot", "adapter"),
    ]  # fmt: skip
    assert [pair.contaminated for pair in found.pairs] == [True, True, False]
    last = found.pairs[-1]
    assert (last.difference, last.only_a, last.only_b, last.real) == (-0.5, 0, 100, True)
    assert (last.basis, last.decisive.n) == ("leak_free", 150)
    turned = last.readable()
    assert (turned.a, turned.difference, turned.only_a) == ("adapter", 0.5, 100)
    assert turned.decisive.difference == -last.leak_free.difference > 0
    assert turned.ci95 == (-last.ci95[1], -last.ci95[0])
    assert turned.turned() == last


def test_rows_known_by_heart_do_not_make_a_difference_real():
    """Right on every leaked row and no better on the clean ones."""
    rng = np.random.default_rng(0)
    base = rng.random(600) < 0.8
    clean = np.arange(600) < 300
    (pair,) = compare_pairs({"base": base, "adapter": base | ~clean}, clean, set())
    assert pair.p_value < 1e-6
    assert pair.decisive.difference == 0
    assert not pair.real
    (official,) = compare_pairs({"base": base, "adapter": base | ~clean}, np.zeros(600, dtype=bool), set())
    assert (official.basis, official.real, official.leak_free) == ("official", True, None)


def right(n: int, *wrong: int) -> np.ndarray:
    mask = np.ones(n, dtype=bool)
    mask[list(wrong)] = False
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_mcnemar_agrees_with_statsmodels(seed):
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 400))
    a, b = rng.random(n) < rng.random(), rng.random(n) < rng.random()
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    found = paired_difference(a, b)
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-12)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.ci95[0] <= found.difference <= found.ci95[1]


def test_the_bootstrap_of_a_difference_agrees_with_resampled_rows():
    rng = np.random.default_rng(1)
    a, b = rng.random(300) < 0.9, rng.random(300) < 0.8
    drawn = rng.integers(0, 300, (4000, 300))
    expected = np.percentile(a[drawn].mean(axis=1) - b[drawn].mean(axis=1), [2.5, 97.5])
    assert paired_difference(a, b).ci95 == pytest.approx(expected, abs=0.005)


def test_systems_that_never_differ_are_not_certain_to_be_equal():
    found = paired_difference(right(100, 3), right(100, 3))
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.ci95 == pytest.approx((-0.0295, 0.0295), abs=1e-3)  # the rule of three: 3 / n


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed):
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(seed).random(6) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])
