"""The run end to end on a keyword predictor: results, cache, resume after a kill, JSON round trip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import KeywordPredictor

from zhsenti.core.errors import DataError, ModelError
from zhsenti.data.split import Example
from zhsenti.evaluation.baselines import Context, System, adapter_system, build_baselines
from zhsenti.evaluation.compare import compare, compare_pairs, holm, paired_difference, slices
from zhsenti.evaluation.schema import ComparisonFile, Provenance, read, write
from zhsenti.evaluation.scoring import CHUNK, EvalRows, cache_key
from zhsenti.task import SentimentTask

TASK = SentimentTask()


def examples(n: int) -> list[Example]:
    good = [Example(f"房间很好，第{i}次来{'呀' * (i % 7)}", 1) for i in range(n // 2)]
    bad = [Example(f"房间很差，第{i}次来{'呀' * (i % 5)}", 0) for i in range(n - n // 2)]
    return [row for pair in zip(good, bad, strict=False) for row in pair] + bad[len(good) :]


def eval_rows(n: int = 200) -> EvalRows:
    return EvalRows(TASK.labels, examples(n), [i % 4 != 0 for i in range(n)])


def adapter(predictor: KeywordPredictor, digest: str = "a") -> System:
    return adapter_system(lambda: predictor, {"adapter_sha256": digest, "method": "label_scoring"}, {"base": "r1"})


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


def test_scores_return_to_their_rows(tmp_path):
    """Chunks go longest first; a mix-up of the order would give a random accuracy."""
    rows = eval_rows(2 * CHUNK + 9)
    result = compare([adapter(KeywordPredictor())], rows, tmp_path).systems[0]
    assert result.official.accuracy == 1.0


def test_a_second_run_computes_nothing(tmp_path):
    rows, first, second = eval_rows(), KeywordPredictor(), KeywordPredictor()
    before = compare([adapter(first)], rows, tmp_path).systems
    after = compare([adapter(second)], rows, tmp_path).systems
    assert sum(first.calls) == 200
    assert second.calls == []
    assert before == after  # the speed too is the one measured when it was computed


@pytest.mark.parametrize("change", ["adapter", "text", "labels only"])
def test_cache_is_keyed_by_what_decides_the_scores(tmp_path, change):
    rows = eval_rows()
    compare([adapter(KeywordPredictor())], rows, tmp_path)
    again = KeywordPredictor()
    system = adapter(again, "b" if change == "adapter" else "a")
    if change == "text":
        rows.examples[3] = replace(rows.examples[3], text="换了一句")
    if change == "labels only":
        rows.examples[3] = replace(rows.examples[3], label=1 - rows.examples[3].label)
    compare([system], rows, tmp_path)
    assert sum(again.calls) == (0 if change == "labels only" else 200)


def test_a_failure_midway_keeps_the_chunks_before_it(tmp_path):
    rows, broken = eval_rows(), KeywordPredictor()

    def fail():
        if len(broken.calls) == 3:
            raise KeyboardInterrupt

    broken.after_call = fail
    with pytest.raises(KeyboardInterrupt):
        compare([adapter(broken)], rows, tmp_path)
    resumed = KeywordPredictor()
    result = compare([adapter(resumed)], rows, tmp_path).systems[0]
    assert sum(resumed.calls) == 200 - 2 * CHUNK
    assert result.official == compare([adapter(KeywordPredictor())], rows, tmp_path / "other").systems[0].official


KILLED = """
import os, signal, sys
from pathlib import Path
from fakes import KeywordPredictor
from test_compare import adapter, eval_rows
from zhsenti.evaluation.compare import compare, compare_pairs, holm, paired_difference, slices
predictor = KeywordPredictor()
predictor.after_call = lambda: len(predictor.calls) == 3 and os.kill(os.getpid(), signal.SIGKILL)
compare([adapter(predictor)], eval_rows(), Path(sys.argv[1]))
"""


def test_kill_9_loses_at_most_one_chunk(tmp_path):
    here = Path(__file__).resolve().parent
    path = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert run.returncode == -9, run.stderr.decode()
    resumed = KeywordPredictor()
    compare([adapter(resumed)], eval_rows(), tmp_path)
    assert sum(resumed.calls) == 200 - 2 * CHUNK


@pytest.mark.parametrize("tear", [1, 30, 400])
def test_a_torn_last_line_is_dropped(tmp_path, tear):
    rows = eval_rows()
    whole = compare([adapter(KeywordPredictor())], rows, tmp_path).systems[0]
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-tear])
    resumed = KeywordPredictor()
    result = compare([adapter(resumed)], rows, tmp_path).systems[0]
    assert sum(resumed.calls) == 200 % CHUNK
    assert result.official == whole.official
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 5  # header and four chunks, all whole again


def test_a_file_that_is_not_a_cache_is_computed_anew(tmp_path):
    rows, system = eval_rows(), adapter(KeywordPredictor())
    (tmp_path / f"{cache_key(system, rows)}.jsonl").write_text('{"chunk": 0}\nnoise\n')
    assert compare([system], rows, tmp_path).systems[0].official.accuracy == 1.0


def test_nan_is_an_error_and_is_not_cached(tmp_path):
    broken = KeywordPredictor()
    broken.log_probs = lambda texts, aspects=None, *, progress=None: np.full((len(texts), 2), np.nan)
    with pytest.raises(ModelError, match="precision fp32"):
        compare([adapter(broken)], eval_rows(), tmp_path)
    assert compare([adapter(KeywordPredictor())], eval_rows(), tmp_path).systems[0].official.accuracy == 1.0


def test_no_leak_free_row_is_said(tmp_path):
    rows = replace(eval_rows(), leak_free=[False] * 200)
    result = compare([adapter(KeywordPredictor())], rows, tmp_path).systems[0]
    assert result.leak_free is None
    assert "都在训练数据里" in result.notes[-1]


def test_aspects_reach_the_scorer(tmp_path):
    seen = []

    def score(texts, aspects=None, *, progress=None):
        seen.append(aspects)
        return np.zeros((len(texts), 2))

    system = System("x", "x", "x", {"x": 1}, lambda: (score, []))
    rows = EvalRows(TASK.labels, [Example("好", 1, "服务"), Example("差", 0, "房间")], [True, True], has_aspect=True)
    compare([system], rows, tmp_path)
    compare([system], replace(rows, has_aspect=False), tmp_path)
    assert seen == [["服务", "房间"], None]


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


def test_reading_something_else_is_an_error(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"systems": 3}')
    with pytest.raises(DataError, match="读不了评估结果"):
        read(path, ComparisonFile)


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


def test_slices_count_every_row_once_and_pool_small_ones():
    values = ["甲"] * 30 + ["乙"] * 12 + ["丙"] * 3 + ["丁"] * 4
    mask = np.array([i % 3 > 0 for i in range(49)])
    found = slices(mask, {"列": values})
    assert [(item.value, item.n) for item in found] == [("甲", 30), ("乙", 12), ("其余（各不足 10 条）", 7)]
    assert sum(item.n * item.accuracy for item in found) == pytest.approx(mask.sum())
    assert not any(item.worse for item in found)


def test_a_slice_is_worse_only_by_more_than_chance():
    values = ["21–50"] * 100 + ["1–20"] * 100 + ["101 以上"] * 100
    mask = np.array([True] * 100 + [i % 2 == 0 for i in range(100)] + [i > 4 for i in range(100)])
    found = slices(mask, {"长度": values, "只有一种": ["同"] * 300})
    assert [item.value for item in found] == ["1–20", "21–50", "101 以上", "同"]
    assert [item.worse for item in found] == [True, False, False, False]
    assert found[-1].p_holm is None


def test_an_empty_cell_has_a_name():
    assert slices(np.ones(20, dtype=bool), {"列": [""] * 20})[0].value == "（空）"
