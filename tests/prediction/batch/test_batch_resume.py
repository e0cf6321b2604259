"""What survives a kill, a full disk or Ctrl-C, and how the same command goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes import KeywordPredictor
from tests.paths import ENV
from tests.prediction.batch.jobs import Stopping, fail_after, score, write_reviews
from zhsenti.core.errors import ConfigError, Interrupted
from zhsenti.prediction.batch import shard_files, shards, sink
from zhsenti.prediction.batch.plan import Job


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """1,200 rows of which a first run left the first window (512) in a shard."""
    path, output = write_reviews(tmp_path / "a.csv", 1200), tmp_path / "o.jsonl"
    whole = score(path, tmp_path / "whole.jsonl").rows
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.0)
    with pytest.raises(OSError, match="No space"):
        score(path, output, load=Stopping)
    assert not output.exists()
    return path, output, whole


def test_the_same_command_goes_on(unfinished, capsys):
    path, output, whole = unfinished
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert sum(again.calls) == 1200 - 512
    assert "接着上次：已有 512 行，共约 1,201 行" in capsys.readouterr().err
    assert not output.with_name(".o.jsonl.parts").exists()


def test_a_torn_line_and_a_damaged_shard_are_scored_again(unfinished):
    path, output, whole = unfinished
    folder = output.with_name(".o.jsonl.parts")
    with (folder / shards.MANIFEST).open("ab") as stream:
        stream.write(b'{"file": 0, "sta')
    (shard,) = folder.glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert sum(again.calls) == 1200


@pytest.mark.parametrize(("change", "named"), [("input", "输入文件"), ("model", "模型"), ("column", "文本列")])
def test_another_job_is_refused_and_what_differs_is_named(unfinished, change, named):
    path, output, _ = unfinished
    if change == "input":
        path.write_text("text\n很好\n", encoding="utf-8")
    flags = {"aspect": "服务"} if change == "column" else {}
    with pytest.raises(ConfigError, match=named):
        score(path, output, model={"adapter": "other"} if change == "model" else None, **flags)


def test_a_second_run_on_the_same_output_is_refused(unfinished):
    path, output, _ = unfinished
    job = Job((path,), "text", None, None, ("负面", "正面"), {})
    with shards.open_shards(job, output), pytest.raises(ConfigError, match="另一个预测正在写"):
        score(path, output)


def test_a_full_disk_keeps_the_shards_before(unfinished, monkeypatch):
    path, output, whole = unfinished
    with monkeypatch.context() as full:
        fail_after(full, shard_files, "_write", 1)
        with pytest.raises(OSError, match="No space"):
            score(path, output)
    assert not output.exists()
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert sum(again.calls) == 1200 - 2 * 512


@pytest.mark.parametrize("seconds", [0.0, 1000.0])  # a shard each window, no shard before the end
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_stops_the_output_what_is_scored_is_kept(seconds, error, tmp_path, monkeypatch):
    path, output = write_reviews(tmp_path / "a.csv", 1200), tmp_path / "o.jsonl"
    whole = score(path, tmp_path / "whole.jsonl").rows
    monkeypatch.setattr(shards, "SHARD_SECONDS", seconds)
    with monkeypatch.context() as full:
        fail_after(full, sink.Sink, "put", 700, error)
        with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else OSError):
            score(path, output)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".o.jsonl.parts", "a.csv", "whole.jsonl"]
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert again.calls == [1200 - 2 * 512]


def test_a_full_disk_has_room_for_a_shard_once_the_unfinished_output_is_gone(tmp_path, monkeypatch):
    path, output = write_reviews(tmp_path / "a.csv", 1200), tmp_path / "o.jsonl"

    def write(place, data):
        if list(tmp_path.glob(".o.jsonl.????????")):
            raise OSError(28, "No space left on device")
        place.write_bytes(data)

    with monkeypatch.context() as full:
        full.setattr(shard_files, "_write", write)
        fail_after(full, sink.Sink, "put", 700)
        with pytest.raises(OSError, match="No space"):
            score(path, output)
    again = KeywordPredictor()
    score(path, output, load=lambda: again)
    assert again.calls == [1200 - 2 * 512]


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch, capsys):
    path = write_reviews(tmp_path / "a.csv", 1200)
    fail_after(monkeypatch, sink.Sink, "put", 700, KeyboardInterrupt())
    with pytest.raises(Interrupted) as stop:
        score(path, tmp_path / "o.jsonl")
    assert stop.value.exit_code == 130
    assert "已停下，1,024 行的结果留着：同一条命令接着算。" in capsys.readouterr().err


DOOMED = """
import sys, time
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch import job as batch, shards
class Slow(KeywordPredictor):
    def predict_batch(self, texts, aspects=None, *, progress=None):
        time.sleep(0.02)
        return super().predict_batch(texts, aspects, progress=progress)
shards.SHARD_SECONDS = 0.05
print("ready", flush=True)
batch.predict_file(PredictConfig(input=sys.argv[1], output=sys.argv[2]), SentimentTask(), Slow)
"""


@pytest.mark.crash
def test_killed_twenty_times_gives_the_same_bytes(tmp_path):
    path = write_reviews(tmp_path / "a.csv", 20_000)

    def start(output: str) -> subprocess.Popen:
        command = [sys.executable, "-c", DOOMED, str(path), str(tmp_path / output)]
        child = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout
        assert child.stdout.readline()
        return child

    def equal() -> bool:
        return (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()

    began, whole = time.monotonic(), start("whole.parquet")
    assert whole.wait(120) == 0
    usual, chance = time.monotonic() - began, random.Random(6)
    killed = 0
    while killed < 20:
        child = start("out.parquet")
        try:
            assert child.wait(chance.uniform(0, 0.5 * usual)) == 0
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
        else:
            assert equal()
            (tmp_path / "out.parquet").unlink()
    assert start("out.parquet").wait(120) == 0
    assert equal()
    assert not list(tmp_path.glob(".out*.parts"))
