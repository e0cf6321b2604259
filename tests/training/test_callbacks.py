"""What watches a run: its log, its bar, its trackers. None of them may cost the run."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from transformers import TrainerCallback, TrainerState

from zhsenti.training.callbacks import EarlyStop, ProgressView, ResultsLog
from zhsenti.training.tracking import Expendable


def test_log_lines_wait_for_the_disk(tmp_path, monkeypatch):
    log = ResultsLog(tmp_path / "log.json")
    log.write("one")
    real = Path.open

    def full(path, mode="r", *args, **kwargs):
        stream = real(path, mode, *args, **kwargs)
        if mode == "ab":
            stream.write(b'{"event": "tw')
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        log.write("two")
    assert [entry["event"] for entry in map(json.loads, log.path.read_text().splitlines())] == ["one"]
    log.write("three")
    assert [entry["event"] for entry in map(json.loads, log.path.read_text().splitlines())] == ["one", "two", "three"]


def test_half_a_line_of_a_power_cut_goes_and_no_whole_line_is_lost(tmp_path):
    """Earlier versions left the half line and wrote on below it: such a log is never cut in the middle."""
    path = tmp_path / "log.json"
    older = '{"event": "one"}\n{"event": "ha\n{"event": "two"}\n'
    path.write_text(older + '{"event": "thr', encoding="utf-8")
    ResultsLog(path).write("four")
    assert path.read_text(encoding="utf-8").startswith(older)
    (line,) = path.read_text(encoding="utf-8").removeprefix(older).splitlines()
    assert json.loads(line)["event"] == "four"


def test_without_a_file_nothing_is_written_or_kept():
    log = ResultsLog(None)
    log.write("one")
    assert not log.waiting


def test_a_tracker_that_fails_is_left_out(capsys):
    class Failing(TrainerCallback):
        calls = 0

        def on_log(self, *args, **kwargs):
            self.calls += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    inner = Failing()
    outer = Expendable(inner)
    for _ in range(3):
        outer.on_log(None, None, None, logs={})
    assert inner.calls == 1
    assert capsys.readouterr().err.count("训练不受影响") == 1


def test_a_log_gets_short_lines_with_what_is_known(capsys):
    view, state = ProgressView(), TrainerState(max_steps=1200, global_step=1)
    view.on_train_begin(None, state, None)
    view.on_step_end(None, state, None)
    view.on_log(None, state, None, logs={"loss": 0.53118, "learning_rate": 1e-4})
    for _ in range(3):
        view.on_prediction_step(None, state, None, eval_dataloader=[0, 1, 2])
    view.on_evaluate(None, state, None)
    view.on_log(None, state, None, logs={"eval_accuracy": 0.925, "eval_loss": 0.2})
    view.on_log(None, state, None, logs={"train_runtime": 1.0})
    view.on_train_end(None, state, None)
    assert capsys.readouterr().err == "  训练 1/1,200 步  损失 0.531\n  训练 1/1,200 步  损失 0.531  验证 92.5%\n"


@pytest.mark.parametrize(
    ("scores", "due"), [([], False), ([0.5], False), ([0.5, 0.5], True), ([0.5, 0.6, 0.5], True), ([0.5, 0.6], False)]
)
def test_early_stopping_asks_the_history_alone(scores, due):
    history = [{"loss": 1.0}, *({"eval_accuracy": score} for score in scores)]
    assert EarlyStop(1).is_due(history) is due
