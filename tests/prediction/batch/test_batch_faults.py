"""What goes wrong around a batch job: odd rows and names, inputs that change, disks that fill up."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from tests.fakes import KeywordPredictor
from tests.prediction.batch.jobs import score
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.data.read import read_table

# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_a_broken_line_of_jsonl_is_a_row_in_every_format(ending, tmp_path):
    path = tmp_path / "a.jsonl"
    deep = "[" * 600 + "]" * 600
    path.write_text(f'{{"id": "1", "text": "很好"}}\n{{bad\n{{"id": "3", "text": "很差", "x": {deep}}}\n', "utf-8")
    found = score(path, tmp_path / f"o.{ending}", min_confidence=1.0, review_output=str(tmp_path / "review.csv"))
    by_name = [row if isinstance(row, dict) else dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [row["label"] or None for row in by_name] == ["正面", None, None]
    assert "不是 JSON" in by_name[1]["error"]
    assert "嵌套太深" in by_name[2]["error"]
    assert len(read_table(tmp_path / "review.csv").rows) == 3


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_numbers_that_no_float_holds_pass_through(ending, tmp_path):
    path = tmp_path / "a.jsonl"
    whole = str(10**400)
    path.write_text(f'{{"text": "很好", "n": {whole}}}\n{{"text": "很差", "n": 1e999}}\n', "utf-8")
    found = score(path, tmp_path / f"o.{ending}")
    first, second = ([str(cell) for cell in row] for row in found.rows)
    assert "正面" in first
    assert whole in first
    assert "负面" in second


def test_doubled_names_in_another_order_are_refused(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "1.csv").write_text("text,b,b\n很好,x,y\n", encoding="utf-8")
    (inside / "2.csv").write_text("b,text,b\nx,很差,y\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2\.csv 的列与.*(?s:.)*顺序也要相同"):
        score(inside, tmp_path / "o.csv")


@pytest.mark.skipif(sys.platform != "linux", reason="counts its own open files")
def test_hundreds_of_files_are_open_one_at_a_time(tmp_path):
    import resource

    inside = tmp_path / "in"
    inside.mkdir()
    for number in range(60):
        (inside / f"{number:02}.csv").write_text(f"text,id\n很好,{number}\n", encoding="utf-8")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    score(inside / "00.csv", tmp_path / "warm.csv")  # libraries open their files
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, before[1]))
    try:
        found = score(inside, tmp_path / "o.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [row[1] for row in found.rows] == [str(number) for number in range(60)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8(tmp_path):
    path = os.fsencode(tmp_path / "x") + "评论.csv".encode("gbk")
    Path(os.fsdecode(path)).write_text("text\n很好\n", encoding="utf-8")
    assert score(os.fsdecode(path), tmp_path / "o.csv").rows[0][1] == "正面"


# ── inputs that change ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["longer", "same length", "gone"])
def test_an_input_that_changes_meanwhile_gives_no_result(change, tmp_path):
    path, output = tmp_path / "a.csv", tmp_path / "o.csv"
    path.write_text("text\n很好\n很差\n", encoding="utf-8")

    class Meddled(KeywordPredictor):
        def predict_batch(self, texts, aspects=None, *, progress=None):
            if change == "longer":
                with path.open("a", encoding="utf-8") as stream:
                    stream.write("很好\n")
            elif change == "gone":
                path.unlink()
            else:
                path.write_text("text\n很差\n很好\n", encoding="utf-8")
            return super().predict_batch(texts, aspects, progress=progress)

    with pytest.raises(DataError, match=r"在预测时变了|没有这个数据文件"):
        score(path, output, load=Meddled)
    assert not output.exists()


def test_an_input_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"没有这个数据文件.*nowhere\.csv"):
        score(tmp_path / "nowhere.csv", tmp_path / "o.csv")


# ── disks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_while_excel_is_written(tmp_path, monkeypatch):
    import zipfile

    def full_disk(self, *_):
        raise OSError(28, "No space left on device")

    aloud: list[object] = []
    path, output = tmp_path / "a.csv", tmp_path / "o.xlsx"
    path.write_text("text\n很好\n", encoding="utf-8")
    with monkeypatch.context() as full:
        for step in ("writestr", "_write_end_record"):  # the archive's end, tried again when it is thrown away
            full.setattr(zipfile.ZipFile, step, full_disk)
        full.setattr("sys.unraisablehook", aloud.append)
        with pytest.raises(OSError, match="No space"):
            score(path, output)
        gc.collect()
    assert not aloud
    assert sorted(one.name for one in tmp_path.iterdir()) == [".o.xlsx.parts", "a.csv"]
    assert score(path, output).rows[0][1] == "正面"


def test_what_a_kill_left_of_the_last_step_is_removed(tmp_path):
    path, output = tmp_path / "a.csv", tmp_path / "o.csv"
    path.write_text("text\n很好\n", encoding="utf-8")
    (tmp_path / ".o.csv.zhsenti-0123abcd").write_text("half", encoding="utf-8")
    (tmp_path / ".o.csv.zhsenti-0123abcd-parts").mkdir()
    (tmp_path / ".o.csv.mine").write_text("not ours", encoding="utf-8")
    score(path, output)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".o.csv.mine", "a.csv", "o.csv"]


def test_the_review_is_not_the_result_by_another_way(tmp_path):
    path, folder = tmp_path / "a.csv", tmp_path / "x"
    folder.mkdir()
    path.write_text("text\n很好\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="就是 --output"):
        score(path, folder / "r.csv", min_confidence=0.9, review_output=str(folder / ".." / "x" / "r.csv"))
