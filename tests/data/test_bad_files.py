"""Files that cannot be used as a whole: one message, the same at both doors, and no model is loaded for them."""

from __future__ import annotations

import gzip
import os
import socket
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.data.files import GOOD, both_doors_say, csv_bytes, predict, train, write_xlsx
from zhsenti.core.errors import DataError
from zhsenti.data import sniff


def xlsx(path: Path) -> bytes:
    write_xlsx(path / "x.xlsx", [("text", "label"), *GOOD])
    return (path / "x.xlsx").read_bytes()


def parquet(path: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["好"], "label": [1]}), path / "x.parquet")
    return (path / "x.parquet").read_bytes()


def zipped(name: str):
    def make(path: Path) -> bytes:
        with zipfile.ZipFile(path / "x.zip", "w") as book:
            book.writestr(name, "text,label\n")
        return (path / "x.zip").read_bytes()

    return make


FILE_FAULTS = {
    "empty": ("a.csv", b"", ["是空文件"]),
    "a header only": ("a.csv", b"text,label\n", ["只有表头", "text、label"]),
    "a BOM only": ("a.csv", b"\xef\xbb\xbf", ["没有数据"]),
    "no rows in JSON": ("a.json", b"[]", ["没有数据"]),
    "text twice": ("a.csv", b"text,text,label\na,b,1\n", ["两列都叫 text"]),
    "no text column": ("a.csv", b"a,b\n1,2\n", ["找不到文本列", "a、b", "--text_column"]),
    "tabs in .csv": ("a.csv", b"text\tlabel\na\t1\n", ["找不到文本列", "改名为 .tsv"]),
    "no object in JSON": ("a.json", b"[1, 2]", ["找不到文本列", "不是一个对象"]),
    "no array in JSON": ("a.json", b'{"text": "a"}', ["最外层要是数组"]),
    "cut JSON": ("a.json", b'[{"text": "a"}', ["不是 JSON", "字符附近"]),
    "deep JSON": ("a.json", b"[" * 100_000, ["不是 JSON", "嵌套太深"]),
    "bytes in JSON": ("a.json", b'[{"text": "\xff"}]', ["编码不对", "第 1 行、第 11 字节"]),
    "an array in .jsonl": ("a.jsonl", b'[\n{"text": "a"},\n1]\n', ["找不到文本列", "不是 JSON"]),
    "a header that is no text": ("a.csv", b"\xff\xff\x80,\xfe\n1,2\n", ["表头（第 1 行）读不了", "不是 UTF-8"]),
    "gzip": ("a.csv", gzip.compress(b"text,label\n"), ["内容与后缀不符", "gzip", "先解压"]),
    "gzip by name": ("a.csv.gz", gzip.compress(b"text,label\n"), ["gzip", "先解压"]),
    "zip": ("a.csv", zipped("a.csv"), ["zip 压缩文件", "先解压"]),
    "Word": ("a.csv", zipped("word/document.xml"), ["Word 文档", "另存为"]),
    "Excel named CSV": ("a.csv", xlsx, ["xlsx", "改名为 .xlsx"]),
    "Parquet named CSV": ("a.csv", parquet, ["Parquet", "改名为 .parquet"]),
    "Parquet named Excel": ("a.xlsx", parquet, ["Parquet", "改名为 .parquet"]),
    "text named Excel": ("a.xlsx", b"text,label\n", ["不是完整的 Excel", "改名为 .csv"]),
    "text named Parquet": ("a.parquet", b"text,label\n", ["不是完整的 Parquet"]),
    "cut Excel": ("a.xlsx", lambda path: xlsx(path)[:-50], ["不是完整的 Excel"]),
    "cut Parquet": ("a.parquet", lambda path: parquet(path)[:-10], ["不是完整的 Parquet"]),
    "PDF": ("a.csv", b"%PDF-1.7\n", ["PDF"]),
    "PNG": ("a.tsv", b"\x89PNG\r\n\x1a\n", ["PNG"]),
    "another ending": ("a.docx", b"x", ["不认识的文件类型", ".xlsx"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_bad_file_is_one_message_at_both_doors(tmp_path, name):
    file, data, parts = FILE_FAULTS[name]
    path = tmp_path / file
    path.write_bytes(data(tmp_path) if callable(data) else data)
    both_doors_say(path, *parts)


def test_things_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "fifo.csv")
    both_doors_say(tmp_path / "fifo.csv", "管道", "先把内容存成文件")
    both_doors_say(Path("/dev/null"), "设备")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has at most 107 bytes
        try:
            server.bind("s.csv")
        finally:
            os.chdir(here)
        both_doors_say(tmp_path / "s.csv", "套接字")
    (tmp_path / "one.csv").symlink_to(tmp_path / "two.csv")
    (tmp_path / "two.csv").symlink_to(tmp_path / "one.csv")
    both_doors_say(tmp_path / "one.csv", "符号链接绕成了圈")
    (tmp_path / "gone.csv").symlink_to("nowhere.csv")
    both_doors_say(tmp_path / "gone.csv", "没有这个数据文件", "nowhere.csv")
    both_doors_say(tmp_path / "no.csv", "没有这个数据文件")
    both_doors_say(tmp_path / ("长" * 200 + ".csv"), "路径太长")
    (tmp_path / "folder").mkdir()
    both_doors_say(tmp_path / "folder", "文件夹")
    (tmp_path / "folder" / "train.csv").mkdir()
    with pytest.raises(DataError, match="是文件夹，这里要一个文件"):
        train(tmp_path / "folder")


def test_no_permission():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv"
        path.write_text("text,label\n好,1\n", encoding="utf-8")
        locked = Path(name) / "locked"
        locked.mkdir()
        os.chmod(name, 0o755)
        os.chmod(path, 0)
        os.chmod(locked, 0)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # root may read everything
            both_doors_say(path, "读不了", "没有权限")
            both_doors_say(locked / "a.csv", "读不了", "没有权限")
            with pytest.raises(DataError, match="没有权限"):
                train(locked)
        finally:
            if root:
                os.seteuid(0)
            os.chmod(locked, 0o700)


def test_a_disk_that_fails_while_rows_are_read(tmp_path, monkeypatch):
    from zhsenti.data import formats

    def lines(stream, encoding):
        yield from [formats.Line(1, "text,label\n", ""), formats.Line(2, "好,1\n", "")]
        raise OSError(5, "Input/output error")

    path = tmp_path / "a.csv"
    path.write_bytes(csv_bytes(b""))
    monkeypatch.setattr(formats, "read_lines", lines)
    with pytest.raises(DataError, match="磁盘读取出错"):
        train(path)
    with pytest.raises(DataError, match="磁盘读取出错"):
        predict(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"], "half a result was left"


def test_what_must_be_read_whole_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(sniff, "MAX_WHOLE", 1 << 20)
    monkeypatch.setattr(sniff, "MAX_UNPACKED", 2 << 20)
    (tmp_path / "a.json").write_bytes(b" " * (2 << 20))
    both_doors_say(tmp_path / "a.json", "太大", "不超过 1 MB", "2 MB", ".jsonl")
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", b" " * (5 << 20))
    both_doors_say(tmp_path / "a.xlsx", "太大", "5 MB")
