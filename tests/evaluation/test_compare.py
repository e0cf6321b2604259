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

from zhsenti.data.sources import Example
from zhsenti.errors import DataError, ModelError
from zhsenti.evaluation.baselines import Context, System, adapter_system, build_baselines
from zhsenti.evaluation.compare import (
    CHUNK,
    Comparison,
    EvalRows,
    Provenance,
    cache_key,
    compare,
    read_comparison,
    write_comparison,
)
from zhsenti.labels import SentimentTask

TASK = SentimentTask()


def examples(n: int) -> list[Example]:
    good = [Example(f"房间很好，第{i}次来{'呀' * (i % 7)}", 1) for i in range(n // 2)]
    bad = [Example(f"房间很差，第{i}次来{'呀' * (i % 5)}", 0) for i in range(n - n // 2)]
    return [row for pair in zip(good, bad, strict=False) for row in pair] + bad[len(good) :]


def eval_rows(n: int = 200) -> EvalRows:
    return EvalRows(TASK.labels, examples(n), [i % 4 != 0 for i in range(n)])


def adapter(predictor: KeywordPredictor, digest: str = "a") -> System:
    return adapter_system(Context(TASK, [], [], [], predictor, {"base": "r1"}), {"adapter_sha256": digest})


def test_all_systems_side_by_side(tmp_path):
    rows, predictor = eval_rows(), KeywordPredictor()
    train = [Example(f"吃得很好{i}", 1) for i in range(30)] + [Example(f"睡得很差{i}", 0) for i in range(20)]
    context = Context(TASK, train, train[::5], rows.examples, predictor, {"base": "r1"})
    systems = [*build_baselines(["majority", "snownlp", "tfidf", "zero_shot"], context), adapter(predictor)]
    results = {item.name: item for item in compare(systems, rows, tmp_path)}
    assert list(results) == ["majority", "snownlp", "tfidf", "zero_shot", "adapter"]
    for item in results.values():
        assert item.official.n == 200
        assert item.leak_free.n == 150
        assert item.rows_per_second > 0
    assert results["adapter"].official.accuracy.value == 1.0
    assert results["tfidf"].official.accuracy.value > 0.9
    assert results["majority"].official.confusion == [[0, 100], [0, 100]]
    assert results["majority"].official.roc_auc.value is None
    assert results["zero_shot"].official.roc_auc.value == 0.5
    assert not results["snownlp"].contaminated


def test_scores_return_to_their_rows(tmp_path):
    """Chunks go longest first; a mix-up of the order would give a random accuracy."""
    rows = eval_rows(2 * CHUNK + 9)
    result = compare([adapter(KeywordPredictor())], rows, tmp_path)[0]
    assert result.official.accuracy.value == 1.0


def test_a_second_run_computes_nothing(tmp_path):
    rows, first, second = eval_rows(), KeywordPredictor(), KeywordPredictor()
    before = compare([adapter(first)], rows, tmp_path)
    after = compare([adapter(second)], rows, tmp_path)
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
    result = compare([adapter(resumed)], rows, tmp_path)[0]
    assert sum(resumed.calls) == 200 - 2 * CHUNK
    assert result.official == compare([adapter(KeywordPredictor())], rows, tmp_path / "other")[0].official


KILLED = """
import os, signal, sys
from pathlib import Path
from fakes import KeywordPredictor
from test_compare import adapter, eval_rows
from zhsenti.evaluation.compare import compare
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
    whole = compare([adapter(KeywordPredictor())], rows, tmp_path)[0]
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-tear])
    resumed = KeywordPredictor()
    result = compare([adapter(resumed)], rows, tmp_path)[0]
    assert sum(resumed.calls) == 200 % CHUNK
    assert result.official == whole.official
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 5  # header and four chunks, all whole again


def test_a_file_that_is_not_a_cache_is_computed_anew(tmp_path):
    rows, system = eval_rows(), adapter(KeywordPredictor())
    (tmp_path / f"{cache_key(system, rows)}.jsonl").write_text('{"chunk": 0}\nnoise\n')
    assert compare([system], rows, tmp_path)[0].official.accuracy.value == 1.0


def test_nan_is_an_error_and_is_not_cached(tmp_path):
    broken = KeywordPredictor()
    broken.log_probs = lambda texts, aspects=None, *, progress=None: np.full((len(texts), 2), np.nan)
    with pytest.raises(ModelError, match="precision fp32"):
        compare([adapter(broken)], eval_rows(), tmp_path)
    assert compare([adapter(KeywordPredictor())], eval_rows(), tmp_path)[0].official.accuracy.value == 1.0


def test_no_leak_free_row_is_said(tmp_path):
    rows = replace(eval_rows(), leak_free=[False] * 200)
    result = compare([adapter(KeywordPredictor())], rows, tmp_path)[0]
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
    provenance = Provenance("命令", "2026-01-01", {"path": "x"}, {"name": "y"}, {"torch": "1"}, {"gpu": None})
    comparison = Comparison(["负面", "正面"], 200, 0, compare(systems, rows, tmp_path), provenance, ["注"])
    path = tmp_path / "out.json"
    write_comparison(path, comparison)
    assert read_comparison(path) == comparison
    assert "负面" in path.read_text(encoding="utf-8")  # readable, not \\u escapes
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["systems"][0]["official"] is None
    assert "不适用" in values["systems"][0]["notes"][0]
    assert set(values["systems"][2]["official"]["accuracy"]) == {"value", "low", "high", "method", "reason"}


def test_reading_something_else_is_an_error(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"systems": 3}')
    with pytest.raises(DataError, match="读不了评估结果"):
        read_comparison(path)
