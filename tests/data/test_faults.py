"""Input that cannot hurt: every fault a file can have, at both doors, training (fail and skip) and prediction."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.data.test_read import write_xlsx
from tests.fakes import KeywordPredictor
from zhsenti.core.errors import DataError
from zhsenti.data import read, sniff
from zhsenti.data.config import DataConfig
from zhsenti.data.read import open_rows, read_table
from zhsenti.data.sources import load_dataset
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask

ROOT = Path(__file__).resolve().parents[2]
GOOD = [(f"第{i}家酒店{'很好' if i % 2 else '很差'}", i % 2) for i in range(60)]
HALF = 30


def train(path: Path, **changes):
    return load_dataset(DataConfig(dataset=str(path), **changes), SentimentTask())


def kept(splits) -> list[tuple[str, int]]:
    rows = [*splits.train, *splits.dev, *splits.test]
    return [(e.text, e.label) for e in sorted(rows, key=lambda e: e.row)]


PLACE = re.compile(r"^(第 (\d+) 行(（数据行 \d+）)?|数据行 \d+)")


def predict(path: Path, **changes) -> list[dict]:
    """Records in order; ``line`` is taken from the error of a row that could not be read, where it stands."""
    output = path.parent / f"{path.name}.scored.jsonl"
    config = PredictConfig(input=str(path), output=str(output), **changes)
    predict_file(config, SentimentTask(), KeywordPredictor)
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for number, record in enumerate(records, start=1):
        place = PLACE.match(record["error"] or "")
        record |= {"row": number, "line": place and place[2] and int(place[2])}
        record["error"] = record["error"] and PLACE.sub("", record["error"])
        if "predicted_label" in record:
            record["label"] = record["predicted_label"]
    return records


def csv_bytes(bad: bytes, encoding: str = "utf-8", mark: str = ",") -> bytes:
    """A table with ``bad`` after 30 of its 60 good rows."""
    lines = [f"{text}{mark}{label}\n" for text, label in GOOD]
    return (
        "".join([f"text{mark}label\n", *lines[:HALF]]).encode(encoding) + bad + "".join(lines[HALF:]).encode(encoding)
    )


def jsonl_bytes(bad: bytes) -> bytes:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in GOOD]
    return "".join(lines[:HALF]).encode() + bad + "".join(lines[HALF:]).encode()


LE = "utf-16-le"
# name: suffix, bytes, reasons of the rows after the 30th good one
ROW_FAULTS = {
    "a GBK line in UTF-8": ("csv", csv_bytes("酒店不错,1\n".encode("gbk")), ["不是 UTF-8：第 32 行、第"]),
    "half a character": ("csv", csv_bytes("酒店".encode()[:-1] + b",1\n"), ["不是 UTF-8：第 32 行"]),
    "a UTF-8 line in GBK": ("csv", csv_bytes("酒店真的不错，下次来,1\n".encode(), "gbk"), ["像是 UTF-8，不是 GB18030"]),
    "a broken line in GBK": ("csv", csv_bytes(b"\xbe\xc6\xff\xff,1\n", "gbk"), ["不是 GB18030：第 32 行"]),
    "a lone surrogate in UTF-8": ("csv", csv_bytes(b"\xed\xa0\xbd,1\n"), ["不是 UTF-8：第 32 行"]),
    "a lone surrogate in UTF-16": ("csv", b"\xff\xfe" + csv_bytes(b"\x3d\xd8,\0001\0\n\0", LE), ["不是 UTF-16"]),
    "NUL": ("csv", csv_bytes(b"a\0b,1\n"), ["含 NUL 字节：第 32 行"]),
    "NUL in TSV": ("tsv", csv_bytes(b"a\0b\t1\n", mark="\t"), ["含 NUL 字节：第 32 行"]),
    "NUL in UTF-16": ("csv", b"\xff\xfe" + csv_bytes("a\0b,1\n".encode(LE), LE), ["含 NUL 字节：第 32 行"]),
    "a line of 17 MB": ("csv", csv_bytes(b"x" * (17 << 20) + b",1\n"), ["一行太长：超过 16 MB"]),
    "a line of 17 MB of JSON": ("jsonl", jsonl_bytes(b"\"" + b"x" * (17 << 20) + b"\"\n"), ["一行太长：超过 16 MB"]),
    "a text of a million": ("csv", csv_bytes(b"x" * 1_000_001 + b",1\n"), ["文本太长：1,000,001 字，上限 100 万字"]),
    "an unclosed quote": ("csv", csv_bytes('"没有右引号,1\n'.encode()), ["引号没有闭合"]),
    "text after a quote": ("csv", csv_bytes('"好"极了,1\n'.encode()), ["引号没有闭合或写法不对"]),
    "two unclosed quotes": ("csv", csv_bytes('"没有,1\n"也没有,0\n'.encode()), ["引号没有闭合"] * 2),
    "a column too few": ("csv", csv_bytes("只有一列\n".encode()), ["列数不对：1 列，表头 2 列"]),
    "a column too many": ("csv", csv_bytes("好,很好,1\n".encode()), ["列数不对：3 列，表头 2 列"]),
    "ragged TSV": ("tsv", csv_bytes("好\t很好\t1\n".encode(), mark="\t"), ["列数不对：3 列，表头 2 列"]),
    "an empty text": ("csv", csv_bytes(b" ,1\n"), ["文本是空的"]),
    "an invisible text": ("csv", csv_bytes("\u200b\u2060\ufeff,1\n".encode()), ["文本里只有看不见的字符"]),
    "bad JSON": ("jsonl", jsonl_bytes(b'{"text": oops}\n'), ["不是 JSON：第 10 个字符"]),
    "JSON that is cut": ("jsonl", jsonl_bytes(b'{"text": "a\n'), ["不是 JSON"]),
    "no object": ("jsonl", jsonl_bytes(b'["a", 1]\n"b"\n'), ["不是一个对象"] * 2),
    "deep JSON": ("jsonl", jsonl_bytes(b"[" * 100_000 + b"]" * 100_000 + b"\n"), ["不是 JSON：嵌套太深"]),
    "a huge number": ("jsonl", jsonl_bytes(b'{"label": ' + b"9" * 5000 + b"}\n"), ["不是 JSON：有一个数太长"]),
    "a text that is missing": ("jsonl", jsonl_bytes(b'{"label": 1}\n{"text": null}\n'), ["文本是空的"] * 2),
    "a text that is a list": ("jsonl", jsonl_bytes(b'{"text": ["a"], "label": 1}\n'), ["文本不是文字：是一个数组"]),
    "NUL written in JSON": ("jsonl", jsonl_bytes(b'{"text": "a\\u0000b", "label": 1}\n'), ["文本含 NUL 字符"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_a_bad_row_costs_itself(tmp_path, name):
    suffix, data, reasons = ROW_FAULTS[name]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    line = HALF + (1 if suffix == "jsonl" else 2)

    with pytest.raises(DataError) as caught:
        train(path)
    for part in (f"{len(reasons)} 行", f"第 {line} 行", *reasons, "--on_error skip"):
        assert part in str(caught.value), str(caught.value)

    splits = train(path, on_error="skip")
    assert kept(splits) == GOOD
    note = next(note for note in splits.notes if "跳过" in note)
    for part in (f"跳过 {len(reasons)} 行，共 {60 + len(reasons)} 行", f"第 {line}", reasons[0].partition("：")[0]):
        assert part in note

    records = predict(path)
    assert [record["row"] for record in records] == list(range(1, 61 + len(reasons)))
    bad, good = records[HALF : HALF + len(reasons)], records[:HALF] + records[HALF + len(reasons) :]
    assert [(r["text"], r["label"], r["error"]) for r in good] == [(t, ("负面", "正面")[i], None) for t, i in GOOD]
    for record, reason in zip(bad, reasons, strict=True):
        assert reason in record["error"]
        assert [record[k] for k in ("label", "confidence", "score_正面", "truncated")] == [None] * 4
    assert bad[0]["line"] in (line, None)  # a row whose cells could be read is found by them


DATA = {
    "control": "房间\x01很好\x1b[31m",
    "zero width": "房\u200b间很好",
    "bidi": "\u202e房间很好\u202c",
    "ZWJ emoji": "很好👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈",
    "BOM inside": "\ufeff很好",
    "line separators": "很好\u2028很\u0085好\x0b",
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("name", DATA)
def test_odd_characters_are_data(tmp_path, name, suffix):
    text, path = DATA[name], tmp_path / f"a.{suffix}"
    mark = "\t" if suffix == "tsv" else ","
    row = (json.dumps({"text": text, "label": 1}) if suffix == "jsonl" else f"{text}{mark}1") + "\n"
    path.write_bytes(jsonl_bytes(row.encode()) if suffix == "jsonl" else csv_bytes(row.encode(), mark=mark))
    splits = train(path)
    assert kept(splits) == [*GOOD[:HALF], (text, 1), *GOOD[HALF:]]
    assert any("1 行有可疑字符" in note for note in splits.notes) == (name != "ZWJ emoji")
    record = predict(path)[HALF]
    assert (record["text"], record["label"], record["error"]) == (text, "正面", None)


def test_a_surrogate_that_json_can_write_is_data(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl_bytes(b'{"text": "\\ud83d\\u5f88\\u597d", "label": 1}\n'))
    assert ("\ud83d很好", 1) in kept(train(path))
    assert predict(path)[HALF]["text"] == "?很好"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gbk", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_at_both_doors(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("".join(["text,label\n", *(f"{text},{label}\n" for text, label in GOOD)]).encode(encoding))
    assert kept(train(path)) == GOOD
    assert [record["text"] for record in predict(path)] == [text for text, _ in GOOD]


def test_a_file_that_is_half_gbk_holds_no_mojibake(tmp_path):
    lines = [f"第{i}家酒店的早餐很好,1\n".encode(("utf-8", "gbk")[i % 2]) for i in range(40)]
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"".join(lines))
    records = predict(path)
    assert [r["text"] for r in records] == [None if i % 2 else f"第{i}家酒店的早餐很好" for i in range(40)]


def test_utf16_that_ends_in_the_middle(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe" + "text,label\n很好,1\n很差,0\n很".encode(LE) + b"\x01")
    assert [r["error"] and r["error"][:9] for r in predict(path)] == [None, None, "不是 UTF-16"]


def test_numbers_are_what_a_person_sees(tmp_path):
    write_xlsx(tmp_path / "a.xlsx", [("text", "label"), *((i + 100, i % 2) for i in range(40)), (1.5, "1.0")])
    rows = kept(train(tmp_path / "a.xlsx"))
    assert rows == [*((str(i + 100), i % 2) for i in range(40)), ("1.5", 1)]
    assert [str(r["text"]) for r in predict(tmp_path / "a.xlsx")] == [text for text, _ in rows]
    (tmp_path / "a.json").write_text(json.dumps([{"text": 12.0, "label": 1.0}, {"text": float("nan"), "label": 1}]))
    assert [r["text"] for r in predict(tmp_path / "a.json")] == [12, None]


def test_merged_cells_say_so(tmp_path):
    path = tmp_path / "a.xlsx"
    rows = [(text, label) for text, label in GOOD]
    write_xlsx(path, [("text", "label"), ("合并", 1), ("", 1), ("", 0), *rows], merged="A2:A4")
    reason = "文本是空的：在合并单元格 A2:A4 里，只有左上角有值"
    with pytest.raises(DataError, match="2 行的文本是空的") as caught:
        train(path)
    assert reason in str(caught.value)
    assert "第 3 行（数据行 2）" in str(caught.value)
    assert kept(train(path, on_error="skip")) == [("合并", 1), *GOOD]
    assert [r["error"] for r in predict(path)][:4] == [None, reason, reason, None]


def test_parquet_cells(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    values = [*(text.encode() for text, _ in GOOD), None, b"\xff\xfe", b"\xe5\xbe\x88"]
    labels = pyarrow.array([*(label for _, label in GOOD), 1, 1, 1])
    for kind in (pyarrow.binary(), pyarrow.string()):
        raw = pyarrow.array(values, pyarrow.binary())
        column = raw if kind == pyarrow.binary() else pyarrow.Array.from_buffers(kind, len(raw), raw.buffers())
        pyarrow.parquet.write_table(pyarrow.table({"text": column, "label": labels}), path)
        assert kept(train(path, on_error="skip")) == [*GOOD, ("很", 1)]
        assert [r["error"] for r in predict(path)] == [*[None] * 60, "文本是空的", "文本不是 UTF-8", None]


def test_all_faults_are_in_one_message(tmp_path):
    bad = 'x"y,1,2\n ,1\n好,postive\n好,\n'.encode() + b"\xff,1\n" * 10
    path = tmp_path / "a.csv"
    path.write_bytes(csv_bytes(bad))
    with pytest.raises(DataError) as caught:
        train(path)
    kinds = ("10 行不是 UTF-8", "1 行列数不对", "1 行的文本是空的", "1 行的标签是空的", "1 行的标签不认识")
    for part in ("14 行用不了", *kinds, "最接近：正面", "…… 共 14 行"):
        assert part in str(caught.value), str(caught.value)
    assert "第 36、37、38" in next(n for n in train(path, on_error="skip").notes if "跳过 14 行" in n)


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n好,一般\n坏,还行\n", encoding="utf-8")
    with pytest.raises(DataError, match="所有行都用不了"):
        train(path, on_error="skip")


# ── faults of the file as a whole ─────────────────────────────────────────────────────────────────────────────────


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


def both_doors_say(path: Path, *parts: str) -> None:
    for on_error in ("fail", "skip"):
        with pytest.raises(DataError) as training:
            train(path, on_error=on_error)
        assert all(part in str(training.value) for part in parts), str(training.value)
    loaded, output = [], path.with_name("out.jsonl")
    config = PredictConfig(input=str(path), output=str(output))
    with pytest.raises(DataError) as prediction:
        predict_file(config, SentimentTask(), lambda: loaded.append(1))
    assert all(part in str(prediction.value) for part in parts), str(prediction.value)
    assert not loaded, "the model was loaded for a file that cannot be read"
    assert not os.path.lexists(output)


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


# ── recovery, limits, memory ──────────────────────────────────────────────────────────────────────────────────────


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
