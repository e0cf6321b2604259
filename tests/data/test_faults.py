"""Input that cannot hurt: every fault a row can have, at both doors, training (fail and skip) and prediction."""

from __future__ import annotations

import json

import pytest

from tests.data.files import GOOD, HALF, csv_bytes, jsonl_bytes, kept, predict, train, write_xlsx
from zhsenti.core.errors import DataError

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
