"""Large files, and rows that could spoil those after them: time, memory and what is lost stay small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.files import GOOD, csv_bytes, jsonl_bytes, kept, predict, train
from tests.paths import ROOT
from zhsenti.core.errors import DataError
from zhsenti.data import read
from zhsenti.data.read import open_rows, read_table


def test_an_unclosed_quote_swallows_nothing(tmp_path):
    path = tmp_path / "a.csv"
    good = [f'"第{i}条，\n有""引号""的",1' for i in range(50)]
    path.write_text(
        "\n".join(["text,label", *good[:20], '"没有右引号,1', "普通,0", *good[20:], '"最后,1']), encoding="utf-8"
    )
    records = predict(path)
    assert sum(r["error"] is None for r in records) == 51
    assert [r["row"] for r in records if r["error"]] == [21, 53]
    assert [r["line"] for r in records if r["error"]] == [42, 104]


def test_many_unclosed_quotes_do_not_cost_their_square(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + 'a","\n' * 60_000, encoding="utf-8")  # every line goes on from the one before
    rows = list(open_rows(path).rows)
    assert len(rows) == 60_000
    assert all(row.error for row in rows)


def test_jsonl_columns_that_the_first_row_lacks(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"id": 1}, *({"review": text, "label": label} for text, label in GOOD)]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    assert kept(train(path, on_error="skip")) == GOOD
    assert read_table(path).columns == ["id", "review", "label"]


def test_training_refuses_what_cannot_be_held(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "MAX_HELD_ROWS", 59)
    for suffix in ("csv", "jsonl"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(csv_bytes(b"") if suffix == "csv" else jsonl_bytes(b""))
        with pytest.raises(DataError, match="行数太多") as caught:
            train(path)
        assert "抽一部分" in str(caught.value)
        assert len(predict(path)) == 60
    monkeypatch.setattr(read, "MAX_HELD_ROWS", 60)
    assert kept(train(path)) == GOOD


PEAK = """
import sys
from pathlib import Path
from zhsenti.data.read import open_rows

good = bad = 0
for row in open_rows(Path(sys.argv[1])).rows:
    good, bad = good + (not row.error), bad + bool(row.error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(good, bad, int(peak.split()[1]) // 1024)
"""


def peak(path: Path) -> tuple[int, int, int]:
    """Good rows, bad rows, and the most memory (MB) that a process needs to read them."""
    done = subprocess.run([sys.executable, "-c", PEAK, path], cwd=ROOT, capture_output=True, text=True, check=True)
    good, bad, memory = map(int, done.stdout.split())
    return good, bad, memory


def write_rows(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for start in range(0, count, 10_000):
            stream.write("".join(f"第{i}家酒店很好,{i % 2}\n" for i in range(start, min(count, start + 10_000))))
    return path


def test_memory_does_not_grow_with_the_rows(tmp_path):
    few = peak(write_rows(tmp_path / "few.csv", 10_000))
    many = peak(write_rows(tmp_path / "many.csv", 500_000))
    assert (few[:2], many[:2]) == ((10_000, 0), (500_000, 0))
    assert many[2] < few[2] + 8


def test_a_line_of_100_mb_is_never_held(tmp_path):
    with (tmp_path / "a.csv").open("wb") as stream:
        stream.write(b"text,label\na,1\n")
        for _ in range(100):
            stream.write(b"x" * (1 << 20))
        stream.write(b",1\nb,0\n")
    good, bad, memory = peak(tmp_path / "a.csv")
    assert (good, bad) == (2, 1)
    assert memory < peak(write_rows(tmp_path / "few.csv", 10))[2] + 60


@pytest.mark.nightly
def test_ten_million_rows(tmp_path):
    few = peak(write_rows(tmp_path / "few.csv", 10_000))
    many = peak(write_rows(tmp_path / "many.csv", 10_000_000))
    assert many[:2] == (10_000_000, 0)
    assert many[2] < few[2] + 8
    with pytest.raises(DataError, match="行数太多"):
        train(tmp_path / "many.csv")
