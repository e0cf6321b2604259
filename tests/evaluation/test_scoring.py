"""The score cache: what is keyed, what a kill costs, what is never computed twice."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.systems import TASK, adapter, eval_rows
from tests.fakes import KeywordPredictor
from tests.paths import ENV
from zhsenti.core.errors import ModelError
from zhsenti.data.split import Example
from zhsenti.evaluation.compare import compare
from zhsenti.evaluation.scoring import CHUNK, EvalRows, cache_key
from zhsenti.evaluation.systems import System


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
from tests.evaluation.systems import adapter, eval_rows
from tests.fakes import KeywordPredictor
from zhsenti.evaluation.compare import compare
predictor = KeywordPredictor()
predictor.after_call = lambda: len(predictor.calls) == 3 and os.kill(os.getpid(), signal.SIGKILL)
compare([adapter(predictor)], eval_rows(), Path(sys.argv[1]))
"""


def test_kill_9_loses_at_most_one_chunk(tmp_path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=ENV, capture_output=True)
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


def test_aspects_reach_the_scorer(tmp_path):
    seen = []

    def score(texts, aspects=None, *, progress=None):
        seen.append(aspects)
        return np.zeros((len(texts), 2))

    system = System("x", "x", "x", identity={"x": 1}, prepare=lambda: (score, []))
    rows = EvalRows(TASK.labels, [Example("好", 1, "服务"), Example("差", 0, "房间")], [True, True], has_aspect=True)
    compare([system], rows, tmp_path)
    compare([system], replace(rows, has_aspect=False), tmp_path)
    assert seen == [["服务", "房间"], None]
