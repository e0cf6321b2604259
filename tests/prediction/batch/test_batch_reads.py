"""How often a batch job reads and parses its input, and what it does where one reading is not enough."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data.files import count_bytes
from tests.fakes import KeywordPredictor
from tests.prediction.batch.jobs import fail_after, run, score
from zhsenti.core.errors import ConfigError
from zhsenti.data import delimited, formats
from zhsenti.prediction.batch import job, shards, sink

ROWS = 3000


def write_input(folder: Path, kind: str) -> Path:
    path = folder / f"in.{kind}"
    texts = [f"第{n}次住，{'很好' if n % 2 else '很差'}" for n in range(ROWS)]
    if kind == "csv":
        lines = ["id,text", *(f"{n},{text}" for n, text in enumerate(texts))]
    else:
        lines = [json.dumps({"id": n, "text": text}, ensure_ascii=False) for n, text in enumerate(texts)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    os.utime(path, (1_700_000_000, 1_700_000_000))  # of a file just written nobody can say that it stays as it is
    return path


@dataclass
class Counts:
    """What was done since the last look: ``bytes()`` read of the input, ``records`` parsed."""

    bytes: Callable[[], int]
    records: int = 0


@pytest.fixture
def counted(monkeypatch):
    counts = Counts(count_bytes(monkeypatch, "in."))
    real_parse, real_record = formats._parse, delimited.CsvRecords.__next__

    def parse(text):
        counts.records += 1
        return real_parse(text)

    def record(self):
        counts.records += 1
        return real_record(self)

    monkeypatch.setattr(formats, "_parse", parse)
    monkeypatch.setattr(delimited.CsvRecords, "__next__", record)
    return counts


def assert_read_once(counted, path):
    size = path.stat().st_size
    assert size < counted.bytes() < 2.5 * size  # one survey (encoding, lines, hash) and the rows; first bytes besides
    assert ROWS <= counted.records <= ROWS + 2, "a header and an end are no second parse"


@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_input_is_parsed_once(kind, output, tmp_path, counted):
    path = write_input(tmp_path, kind)
    run(path, tmp_path / f"out.{output}")
    assert_read_once(counted, path)


def test_an_input_named_from_its_folder_is_the_same_input(tmp_path, counted, monkeypatch):
    monkeypatch.chdir(write_input(tmp_path, "csv").parent)
    run("in.csv", "out.csv")
    assert_read_once(counted, tmp_path / "in.csv")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_run_that_goes_on_parses_once_too(kind, tmp_path, counted, monkeypatch):
    path = write_input(tmp_path, kind)
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.0)
    with monkeypatch.context() as full:
        fail_after(full, sink.Sink, "put", 2000)
        with pytest.raises(OSError, match="No space"):
            run(path, tmp_path / "out.csv")
    counted.bytes()
    counted.records = 0
    again = KeywordPredictor()
    run(path, tmp_path / "out.csv", load=lambda: again)
    assert sum(again.calls) == ROWS - 4 * 512
    assert_read_once(counted, path)


def test_rows_are_counted_for_excel_only_where_they_may_be_too_many(tmp_path, counted, monkeypatch):
    path = write_input(tmp_path, "csv")
    monkeypatch.setattr(job, "EXCEL_ROWS", ROWS)  # a last line end makes the upper bound ROWS + 1
    run(path, tmp_path / "out.xlsx")
    assert counted.records > 2 * ROWS
    monkeypatch.setattr(job, "EXCEL_ROWS", ROWS - 1)
    with pytest.raises(ConfigError, match="3,000 行放不进一张 Excel 表"):
        run(path, tmp_path / "out.xlsx", load=lambda: pytest.fail("loaded"))


# ── keys that later objects have ──────────────────────────────────────────────────────────────────────────────────


def write_objects(path: Path, extra: dict[int, dict]) -> Path:
    rows = ({"text": f"第{n}次{'很好' if n % 2 else '很差'}", **extra.get(n, {})} for n in range(1200))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_key_of_a_later_object_is_a_column_and_no_row_is_scored_twice(tmp_path):
    path = write_objects(tmp_path / "in.jsonl", {1100: {"id": "x"}})
    loaded: list[KeywordPredictor] = []

    def load():
        loaded.append(KeywordPredictor())
        return loaded[-1]

    found = score(path, tmp_path / "out.csv", load=load)
    assert found.columns[:3] == ["text", "id", "label"]
    assert [row[1] for row in found.rows] == [*[""] * 1100, "x", *[""] * 99]
    assert [sum(predictor.calls) for predictor in loaded] == [1200]


def test_lines_of_json_keep_their_own_keys_without_another_reading(tmp_path, counted):
    path = write_objects(tmp_path / "in.jsonl", {1100: {"id": "x"}})
    run(path, tmp_path / "out.jsonl")
    assert counted.records == 1200
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.get("id") for row in lines] == [*[None] * 1100, "x", *[None] * 99]


def test_a_key_that_a_result_would_have_renames_it_in_all_rows(tmp_path, capsys):
    path = write_objects(tmp_path / "in.jsonl", {1100: {"label": "金标"}})
    score(path, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all("predicted_label" in row for row in lines)
    assert [row["label"] for row in lines if "label" in row] == ["金标"]
    assert "输入里已有同名的列，结果写在 predicted_label" in capsys.readouterr().err


def test_progress_where_no_bar_can_be_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("zhsenti.core.console.TELL_EVERY", 0.0)
    run(write_input(tmp_path, "csv"), tmp_path / "out.csv")
    lines = [line.split("  ") for line in capsys.readouterr().err.splitlines() if "行/秒" in line]
    assert all(line[4] == "共约 3,001 行" for line in lines)
    shares = [float(line[1].removeprefix("预测 ").rstrip("%")) for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert lines[-1][2] == "3,000 行"
