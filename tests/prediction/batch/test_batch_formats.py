"""Whole files in every format, in and out."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest

from tests.prediction.batch.jobs import run, score
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.core.flags import parse
from zhsenti.data.read import read_table
from zhsenti.prediction.batch import job
from zhsenti.prediction.batch.outputs import row_writer
from zhsenti.prediction.config import PredictConfig

ROWS = [("1", "房间很好", "-5"), ("2", '太吵，"很差"', "007"), ("3", "一般\n吧", ""), ("4", "😀很好", "+1.5e3")]
ADDED = ["label", "confidence", "score_负面", "score_正面", "truncated", "error"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The same rows in every format, made by prediction's own writers from JSON lines."""
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
    monkeypatch.setattr(job, "EXCEL_ROWS", 8)
    with pytest.raises(ConfigError, match="放不进一张 Excel 表"):
        score(path, tmp_path / "o.xlsx", load=lambda: pytest.fail("loaded"))


@pytest.mark.parametrize("output", ["结果.csv", "-"])
def test_the_last_line_can_be_typed(tmp_path, capsys, output):
    """With the columns and the base that this run was given."""
    path, output = tmp_path / "我的 评论.csv", str(tmp_path / output) if output != "-" else output
    path.write_text("-正文\n很好\n", encoding="utf-8")
    given = {
        "text_column": "-正文",
        "model_path": "my adapter",
        "model_name": "base",
        "precision": "fp32",
        "merge": True,
    }
    run(path, output, **given)
    line = capsys.readouterr().err.splitlines()[-1]
    again, _ = parse(PredictConfig, shlex.split(line.partition("zhsenti predict")[2]), "")
    expected = PredictConfig(input=str(path), output="结果.csv", **given)
    assert again == (replace(expected, output=output, min_confidence=0.9) if output != "-" else expected)
