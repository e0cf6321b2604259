"""Files as people have them, and the mistakes in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.files import ROWS, write
from zhsenti.core.errors import DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.read import read_table
from zhsenti.data.sources import load_dataset
from zhsenti.task import SentimentTask


def load(path, **changes):
    return load_dataset(DataConfig(dataset=str(path), **changes), SentimentTask())


def everything(splits):
    return sorted((e.text, e.label) for e in [*splits.train, *splits.dev, *splits.test])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    assert everything(load(write(tmp_path / f"a.{suffix}"))) == sorted(ROWS)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "BOM"),
        ("gb18030", "GB18030"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_encodings_are_found_and_said(tmp_path, encoding, said, suffix):
    splits = load(write(tmp_path / f"a.{suffix}", encoding=encoding))
    assert everything(splits) == sorted(ROWS)
    assert any(said in note for note in splits.notes)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), min_size=1, max_size=20))
def test_csv_round_trip_loses_nothing(tmp_path_factory, texts):
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["text", "label"], *([text, "1"] for text in texts)])
    assert [row[0] for row in read_table(path).rows] == texts


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        (("评论", "标签"), {}),
        (("Review", "Sentiment"), {}),
        (("text_a", "label"), {}),
        (("正文内容", "y"), {"text_column": "正文内容", "label_column": "y"}),
    ],
)
def test_columns_are_found_or_given(tmp_path, columns, flags):
    assert everything(load(write(tmp_path / "a.csv", columns=columns), **flags)) == sorted(ROWS)


@pytest.mark.parametrize(
    "names",
    [("负面", "正面"), ("negative", "Positive"), ("neg", "POS"), ("差评", "好评"), ("0.0", "1.0"), ("０", "１")],
)
def test_label_spellings(tmp_path, names):
    rows = [(text, names[label]) for text, label in ROWS]
    assert everything(load(write(tmp_path / "a.csv", rows))) == sorted(ROWS)


def fails(path, *parts, **flags):
    with pytest.raises(DataError) as caught:
        load(path, **flags)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_unknown_labels_are_counted_with_the_nearest(tmp_path):
    rows = [*ROWS, ("一般", "postive"), ("还行", "postive"), ("嗯", "2")]
    fails(write(tmp_path / "a.csv", rows), "3 行", "'postive'×2", "最接近：正面", "'2'×1", "task.labels")


def test_mistakes_name_file_line_and_remedy(tmp_path):
    def make(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    fails(tmp_path / "none.csv", "没有这个数据文件")
    fails(make("empty.csv", ""), "是空文件")
    fails(make("head.csv", "text,label\n"), "只有表头")
    fails(make("cols.csv", "a,b\n1,2\n"), "找不到文本列", "a、b", "--text_column")
    fails(make("two.csv", "text,text,label\na,b,1\n"), "两列都叫 text")
    fails(make("ragged.csv", "text,label\n好,1\n好,很好,1\n"), "第 3 行", "3 列", "引号")
    fails(make("quote.csv", 'text,label\n"好,1\n不好,0\n'), "引号没有闭合", "第 2 行")
    fails(make("nul.csv", b"text,label\n\xba\xc3\x00,1\n"), "第 2 行", "NUL")
    fails(
        make("bytes.csv", b"text,label\n\xe5\xa5\xbd,1\n\xff\xff\xfe,0\n" + b"\x81" * 7 + b",1\n"),
        "2 行不是 UTF-8",
        "第 3 行、第 17 字节",
    )
    fails(make("blank.csv", "text,label\n好,1\n ,0\n好,\n"), "1 行的文本是空的", "数据行 2")
    fails(make("bad.jsonl", '{"text": "好", "label": 1}\n{oops\n'), "第 2 行不是 JSON")
    fails(make("bad.json", "[1]"), "不是一个对象")
    fails(make("a.docx", "x"), "不认识的文件类型", ".xlsx")
    fails(make("fake.parquet", "not parquet"), "不是完整的 Parquet")
    fails(make("fake.xlsx", "not excel"), "不是完整的 Excel")
    fails(make("tiny.csv", "text,label\n好,1\n坏,0\n"), "是空的")


def test_folder_of_splits_and_carved_ones(tmp_path):
    write(tmp_path / "train.tsv", ROWS[:40])
    write(tmp_path / "test.csv", ROWS[40:])
    splits = load(tmp_path)
    assert everything(splits) == sorted(ROWS)
    assert sorted((e.text, e.label) for e in splits.test) == sorted(ROWS[40:])
    assert any("没有 dev 文件" in note for note in splits.notes)
    write(tmp_path / "train.csv", ROWS[:40])
    fails(tmp_path, "不止一个 train")
    (tmp_path / "other").mkdir()
    fails(tmp_path / "other", "没有训练文件", "空文件夹")


def test_quotes_in_tsv_are_text(tmp_path):
    path = tmp_path / "a.tsv"
    lines = [f'{i % 2}\t"第{i}条' for i in range(40)]
    path.write_text("label\ttext_a\n" + "\n".join(lines), encoding="utf-8")
    assert len(everything(load(path))) == 40
