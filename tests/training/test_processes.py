"""Two processes on one machine (gloo): the training of one, resumable, and ended as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.training.doomed import RESUME, losses, run, same, wait_for, weights
from zhsenti.core.errors import ConfigError
from zhsenti.training import processes
from zhsenti.training.checkpoints import checkpoints, fault_of, random_state_file

ROOT = Path(__file__).resolve().parents[2]


def launch(argv: list[str], log: Path, count: int = 2) -> subprocess.Popen:
    words = [sys.executable, "scripts/train_label_scoring.py", *argv, "--num_processes", str(count)]
    with log.open("wb") as stream:
        return subprocess.Popen(words, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen, log: Path) -> tuple[int, str]:
    return process.wait(300), log.read_text(encoding="utf-8")


def workers(parent: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(parent).children(recursive=True) if "RANK" in p.environ()]


def no_dropout(argv: list[str]) -> list[str]:
    """Each process has random numbers of its own, so masks would differ from one process's."""
    return [*argv, "--lora_dropout", "0"]


@pytest.fixture(scope="module")
def both(command, tmp_path_factory):
    """The same run by one process and by two."""
    folder = tmp_path_factory.mktemp("both")
    one = run(no_dropout(command(folder / "one")), folder / "one.log")
    assert one.code == 0, one.said
    code, said = finish(launch(no_dropout(command(folder / "two")), folder / "two.log"), folder / "two.log")
    assert code == 0, said
    return folder / "one", folder / "two", said


def test_two_processes_train_as_one(both):
    one, two, said = both
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-4  # float32 sums in another order
    assert said.count("完成：") == 1, "one process speaks"
    assert "Traceback" not in said
    assert "Warning" not in said
    assert not [line for line in said.splitlines() if line.startswith(("W", "E")) and "torch/distributed" in line]


def test_each_process_has_its_random_state_in_the_checkpoint(both):
    _, two, _ = both
    (last,) = checkpoints(two)
    assert not fault_of(last)
    for rank in range(2):
        assert (last / random_state_file(rank, 2)).is_file()


def test_a_stopped_pair_resumes_to_the_same_bits(both, command, tmp_path):
    _, two, _ = both
    output, log = tmp_path / "run", tmp_path / "log"
    argv = no_dropout(command(output))
    process = launch(argv, log)
    wait_for(log, "训练 2/")
    process.send_signal(signal.SIGTERM)
    code, said = finish(process, log)
    assert code == 143, said
    assert "已停止" in said
    assert "Traceback" not in said
    assert checkpoints(output)
    code, said = finish(launch([*argv, *RESUME], log), log)
    assert code == 0, said
    assert "续训" in said
    assert same(weights(two), weights(output))


def test_another_number_of_processes_is_another_run(both, command):
    _, two, _ = both
    done = run([*no_dropout(command(two)), *RESUME], two.parent / "other.log")
    assert done.code == 2
    assert "processes：2 → 1" in done.said


def test_a_base_in_parts_trains_the_same(both, command, tmp_path):
    """FSDP on CPUs: every layer's frozen weights are spread over both processes."""
    one, _, _ = both
    output, log = tmp_path / "run", tmp_path / "log"
    code, said = finish(launch([*no_dropout(command(output)), "--fsdp"], log), log)
    assert code == 0, said
    assert "FSDP" in said
    assert losses(output) == pytest.approx(losses(one), abs=1e-4)
    a, b = weights(one), weights(output)
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-4
    done = run([*command(tmp_path / "alone"), "--fsdp"], tmp_path / "alone.log")
    assert done.code == 2
    assert "--num_processes 至少 2" in done.said


@pytest.mark.parametrize("rank", [0, 1])
def test_one_killed_ends_all_and_the_run_goes_on_later(command, tmp_path, rank):
    output, log = tmp_path / "run", tmp_path / "log"
    argv = no_dropout(command(output, "--num_epochs", "40"))
    process = launch(argv, log)
    wait_for(log, "训练 2/")
    started = workers(process.pid)
    assert len(started) == 2
    next(p for p in started if p.environ()["RANK"] == str(rank)).kill()
    begin = time.monotonic()
    code, said = finish(process, log)
    assert code == 2, said
    assert time.monotonic() - begin < 60
    assert "Traceback" not in said, said
    assert "训练进程" in said
    assert "--resume_from_checkpoint auto" in said
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started)
    assert all(not fault_of(checkpoint) for checkpoint in checkpoints(output))


def test_a_mistake_is_said_once_and_ends_all(command, tmp_path):
    log = tmp_path / "log"
    code, said = finish(launch([*command(tmp_path / "run"), "--lora_target_modules", "no_proj"], log), log)
    assert code == 2, said
    assert said.count("错误：") == 1
    assert "no_proj" in said
    assert "Traceback" not in said


def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="进程多于显卡"):
        processes.launch(2, [], tmp_path)


@pytest.mark.parametrize(("cards", "card"), [(1, 0), (2, 1), (8, 3)])
def test_a_process_that_is_shown_one_card_alone_takes_it(monkeypatch, cards, card):
    import torch

    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, {"WORLD_SIZE": "4"}.get(name, "3"))
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    processes.Processes()
    assert taken == [card]


@pytest.mark.parametrize("more", [{}, {"RANK": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}])
def test_a_cluster_s_leftovers_are_one_message(monkeypatch, more):
    for name, value in {"WORLD_SIZE": "2", **more}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="说得不全"):
        processes.started_count()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.started_count() == 1


def test_shares_are_all_of_it():
    parts = []
    for rank in range(3):
        alone = processes.Processes()
        alone.rank, alone.count = rank, 3
        parts.append(alone.share(list(range(7))))
    assert sorted(item for part in parts for item in part) == list(range(7))
    assert "RANK" not in os.environ
