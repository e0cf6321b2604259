"""Whole files in every format, and what survives a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import KeywordPredictor
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.data.read import read_table
from zhsenti.prediction.batch import job as batch
from zhsenti.prediction.batch import shards
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import InferenceConfig
from zhsenti.task import SentimentTask

ROOT = Path(__file__).resolve().parents[2]
ROWS = [("1", "房间很好", "-5"), ("2", '太吵，"很差"', "007"), ("3", "一般\n吧", ""), ("4", "😀很好", "+1.5e3")]
ADDED = ["label", "confidence", "score_负面", "score_正面", "truncated", "error"]


def score(path, output, load=KeywordPredictor, model=None, **flags):
    predict_file(InferenceConfig(input=str(path), output=str(output), **flags), SentimentTask(), load, model)
    return read_table(Path(output))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The same rows in every format, made by prediction's own writers from JSON lines."""
    from collections import Counter

    import pyarrow
    import pyarrow.parquet

    from zhsenti.prediction.batch.outputs import row_writer

    folder, names = tmp_path_factory.mktemp("tables"), ["id", "text", "note"]
    for suffix in ("csv", "tsv", "jsonl", "xlsx"):
        with row_writer(folder / f"in.{suffix}", names, [], Counter()) as write:
            for row in ROWS:
                write(names, row, [])
    columns = dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "in.parquet")
    return folder


@pytest.mark.parametrize("there", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize("here", ["csv", "tsv", "jsonl", "xlsx", "parquet"])
def test_every_format_in_and_out(tables, tmp_path, here, there):
    found = score(tables / f"in.{here}", tmp_path / f"out.{there}")
    assert found.columns == ["id", "text", "note", *ADDED]
    assert [row[3] for row in found.rows] == ["正面", "负面", "负面", "正面"]
    flat = "tsv" in (here, there)  # one line, one record
    for row, (number, text, note) in zip(found.rows, ROWS, strict=True):
        assert (str(row[0]), row[1]) == (number, text.replace("\n", " ") if flat else text)
        assert (row[2] or "") == note, "a number written as text must stay as it was"


def test_a_column_that_is_there_already_is_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,predicted_label\n很好,0,x\n", encoding="utf-8")
    found = score(path, tmp_path / "b.csv")
    assert found.columns[:4] == ["text", "label", "predicted_label", "predicted_label_2"]
    assert found.rows[0][:4] == ["很好", "0", "x", "正面"]


def test_folder_and_pattern_are_one_table(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "b.csv").write_text("text,id\n很差,2\n", encoding="utf-8")
    (inside / "a.csv").write_text("id,text\n1,很好\n", encoding="utf-8")
    (inside / "notes.md").write_text("x", encoding="utf-8")
    for given in (inside, inside / "*.csv"):
        assert [row[:3] for row in score(given, tmp_path / "o.csv").rows] == [
            ["1", "很好", "正面"],
            ["2", "很差", "负面"],
        ]
    (inside / "c.csv").write_text("text,other\n很差,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.csv 的列与"):
        score(inside, tmp_path / "o.csv")
    with pytest.raises(DataError, match="没有文件符合"):
        score(inside / "*.tsv", tmp_path / "o.csv")
    (inside / "c.csv").unlink()
    with pytest.raises(ConfigError, match="在输入的文件夹里"):
        score(inside, inside / "o.csv")


def test_unsure_rows_and_errors_go_to_review_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,id\n很好,1\n说不清,2\n,3\n", encoding="utf-8")
    found = score(path, tmp_path / "o.csv", min_confidence=0.8)
    assert [row[1] for row in found.rows] == ["1", "2", "3"]
    assert [row[1] for row in read_table(tmp_path / "o.review.csv").rows] == ["2", "3"]


def test_too_many_rows_for_excel_are_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "很好\n" * 9, encoding="utf-8")
    monkeypatch.setattr(batch, "EXCEL_ROWS", 8)
    with pytest.raises(ConfigError, match="放不进一张 Excel 表"):
        score(path, tmp_path / "o.xlsx", load=lambda: pytest.fail("loaded"))


PIPED = """
import sys
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import InferenceConfig
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch.job import predict_file
predict_file(InferenceConfig(input="-"), SentimentTask(), KeywordPredictor)
"""


def _pipe():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PIPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)


PIPES = [
    "很好\n很差\n",
    '{"text": "很好"}\n{"text": "很差"}\n',
    "id,text\n1,很好\n2,很差\n",
    "text\tid\n很好\t1\n很差\t2\n",
    "\ufeff很好\r\n很差",
]


@pytest.mark.parametrize("content", PIPES)
def test_a_pipe_of_any_kind(content):
    said, _ = _pipe().communicate(content.encode(), timeout=60)
    assert [json.loads(line)["label"] for line in said.decode().splitlines()] == ["正面", "负面"]


def test_a_pipe_is_answered_before_it_is_closed():
    with _pipe() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for text, label in (("很好", "正面"), ("很差", "负面")):
            child.stdin.write(f"{text}\n".encode())
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["label"] == label
        child.stdin.close()
        assert child.wait(30) == 0


class Stopping(KeywordPredictor):
    """Fails as a full disk would, in its second window."""

    def predict_batch(self, texts, aspects=None):
        if len(self.calls) == 1:
            raise OSError(28, "No space left on device")
        return super().predict_batch(texts, aspects)


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """1,200 rows of which a first run left the first window (512) in a shard."""
    path, output = tmp_path / "a.csv", tmp_path / "o.jsonl"
    path.write_text(
        "text\n" + "".join(f"第{n}次{'很好' if n % 2 else '很差'}\n" for n in range(1200)), encoding="utf-8"
    )
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
    assert "接着上次：已有 512 行，共 1,200 行" in capsys.readouterr().err
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
    job = shards.Job((path,), "text", None, None, ("负面", "正面"), {})
    with shards.open_shards(job, output), pytest.raises(ConfigError, match="另一个预测正在写"):
        score(path, output)


def full_after(monkeypatch, module, name, calls):
    """``module.name`` raises as a full disk does, from its ``calls``-th call on."""
    real, count = getattr(module, name), iter(range(10_000))

    def write(*args, **flags):
        if next(count) >= calls:
            raise OSError(28, "No space left on device")
        return real(*args, **flags)

    monkeypatch.setattr(module, name, write)


def test_a_full_disk_keeps_the_shards_before(unfinished, monkeypatch):
    path, output, whole = unfinished
    with monkeypatch.context() as full:
        full_after(full, shards, "_write", 1)
        with pytest.raises(OSError, match="No space"):
            score(path, output)
    assert not output.exists()
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert sum(again.calls) == 1200 - 2 * 512


def test_a_full_disk_at_the_end_keeps_all_shards(unfinished, monkeypatch):
    path, output, whole = unfinished
    with monkeypatch.context() as full:
        full_after(full, batch._Sink, "put", 700)
        with pytest.raises(OSError, match="No space"):
            score(path, output)
    assert not output.exists()
    again = KeywordPredictor()
    assert score(path, output, load=lambda: again).rows == whole
    assert not again.calls


DOOMED = """
import sys, time
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import InferenceConfig
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch import job as batch, shards
class Slow(KeywordPredictor):
    def predict_batch(self, texts, aspects=None):
        time.sleep(0.02)
        return super().predict_batch(texts, aspects)
shards.SHARD_SECONDS = 0.05
print("ready", flush=True)
batch.predict_file(InferenceConfig(input=sys.argv[1], output=sys.argv[2]), SentimentTask(), Slow)
"""


@pytest.mark.crash
def test_killed_twenty_times_gives_the_same_bytes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "id,text\n" + "".join(f"{n},第{n}次{'很好' if n % 2 else '很差'}\n" for n in range(20_000)), "utf-8"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(output: str) -> subprocess.Popen:
        command = [sys.executable, "-c", DOOMED, str(path), str(tmp_path / output)]
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
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
