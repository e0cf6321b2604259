"""Runs that are asked to stop by a signal: the step is finished and saved, and the run goes on later."""

from __future__ import annotations

import os
import signal

import pytest

from tests.training.doomed import RESUME, events, outcome, run, same, start, wait_for, weights
from zhsenti.training import interrupts
from zhsenti.training.checkpoints import checkpoints, fault_of


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_finishes_the_step_saves_and_goes_on_later(command, tmp_path, number, code):
    whole, output, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    assert run(command(whole), tmp_path / "whole.log").code == 0
    process = start(command(output), log, slow_steps=0.8)
    wait_for(log, "训练 3/")
    os.kill(process.pid, number)
    done = outcome(process, log)
    assert done.code == code, done.said
    for part in ("收到停止信号", "已停止，最后完整的检查点是", "checkpoint-", "--resume_from_checkpoint auto"):
        assert part in done.said
    assert "Traceback" not in done.said
    (last, *_) = checkpoints(output)
    assert int(last.name.split("-")[1]) in (3, 4, 5)
    assert not fault_of(last)
    assert events(output, "stop")[0]["signal"] == number
    done = run([*command(output), *RESUME], log)
    assert done.code == 0, done.said
    assert f"从最后一个完整的检查点 {last} 续训" in done.said.replace("\n", "")
    assert same(weights(output), weights(whole))


def test_a_second_signal_stops_at_once(command, tmp_path):
    log = tmp_path / "log"
    process = start(command(tmp_path / "run"), log, slow_steps=60)
    wait_for(log, "内存安排")
    wait_for(tmp_path / "run" / "train_results.json", "start")
    os.kill(process.pid, signal.SIGTERM)
    wait_for(log, "收到停止信号")
    process.join(1.5)
    assert process.exitcode is None, "one signal must not cut the step"
    os.kill(process.pid, signal.SIGTERM)
    assert outcome(process, log, timeout=10).code == -signal.SIGTERM


def test_one_ctrl_c_passed_on_twice_is_one(monkeypatch):
    killed = []
    before_all = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind "&"
    monkeypatch.setattr(interrupts.os, "kill", lambda *args: killed.append(args))
    monkeypatch.setattr(interrupts.os, "write", lambda *args: None)
    with interrupts.StopRequest() as stop:
        stop._receive(signal.SIGINT, None)
        stop._receive(signal.SIGTERM, None)  # a launcher passes it on in another form
        assert (stop.signal, killed) == (signal.SIGINT, [])
        stop._came_at -= 2
        before = signal.getsignal(signal.SIGINT)
        stop._receive(signal.SIGINT, None)
        assert killed == [(os.getpid(), signal.SIGINT)]
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before_all)
