"""A file's bytes are read once to know it, and once for its rows, however often it is opened."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.data.files import GOOD, count_bytes, write
from zhsenti.data import lines
from zhsenti.data.lines import survey
from zhsenti.data.read import open_rows

ENCODINGS = ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.fixture
def count(monkeypatch):
    """A function: how many bytes of files have been read since it was called last."""
    monkeypatch.setattr(lines, "_surveys", {})
    return count_bytes(monkeypatch)


def aged(path: Path) -> Path:
    """The file as one that was not changed a moment ago."""
    os.utime(path, (1e9, 1e9))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_all(path: Path) -> int:
    return sum(1 for _ in open_rows(path).rows)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_it_tells_encoding_lines_and_hash(tmp_path, encoding, suffix):
    path = write(tmp_path / f"a.{suffix}", GOOD, encoding=encoding)
    result = survey(path)
    assert result.sha256 == sha256(path)
    assert "你好".encode(encoding).removeprefix(b"\xff\xfe").removeprefix(b"\xef\xbb\xbf").decode(result.encoding.codec)
    assert len(GOOD) <= open_rows(path).content.most <= result.lines
    if "16" not in encoding:
        assert result.lines == path.read_bytes().count(b"\n") + 1


@pytest.mark.parametrize(("encoding", "passes"), [("utf-8", 1), ("utf-16", 1), ("gb18030", 2)])
def test_the_second_open_reads_rows_alone(tmp_path, count, encoding, passes):
    path = aged(write(tmp_path / "a.csv", GOOD * 50, encoding=encoding))
    size, slack = path.stat().st_size, 500  # the first bytes tell archives from text
    assert read_all(path) == len(GOOD) * 50
    assert (passes + 1) * size <= count() <= (passes + 1) * size + slack
    assert read_all(path) == len(GOOD) * 50
    assert size <= count() <= size + slack
    assert survey(path).sha256
    assert count() == 0


def test_a_changed_file_is_read_again(tmp_path, count):
    path = aged(write(tmp_path / "a.csv"))
    before = survey(path).sha256
    count()
    path.write_bytes(path.read_bytes().replace("下次".encode(), "上次".encode()))
    aged(path)  # same size, same time of change: only its inode's own time differs
    count()
    after = survey(path).sha256
    assert count() == path.stat().st_size
    assert before != after == sha256(path)


def test_changes_within_a_tick_of_the_clock_are_seen(tmp_path):
    path = tmp_path / "a.csv"
    for i in range(300):
        path.write_text(f"text\n第{i:03}条\n", encoding="utf-8")
        assert survey(path).sha256 == sha256(path)


@pytest.mark.parametrize("suffix", ["parquet", "xlsx", "json"])
def test_formats_without_lines_have_a_hash_too(tmp_path, count, suffix):
    path = aged(write(tmp_path / f"a.{suffix}"))
    expected = sha256(path)
    count()
    assert survey(path).sha256 == expected
    assert survey(path) is survey(path)
    assert count() == path.stat().st_size


def test_what_is_remembered_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_surveys", {})
    monkeypatch.setattr(lines, "MAX_SURVEYS", 3)
    for name in "abcde":
        survey(aged(write(tmp_path / f"{name}.csv")))
    assert len(lines._surveys) == 3
