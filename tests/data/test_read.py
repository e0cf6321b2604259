"""Files as people have them, and the mistakes in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.files import ROWS, kept, train, write
from zhsenti.core.errors import DataError
from zhsenti.data.read import read_table


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    assert kept(train(write(tmp_path / f"a.{suffix}"))) == ROWS


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
    splits = train(write(tmp_path / f"a.{suffix}", encoding=encoding))
    assert kept(splits) == ROWS
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
    assert kept(train(write(tmp_path / "a.csv", columns=columns), **flags)) == ROWS


@pytest.mark.parametrize(
    "names",
    [("负面", "正面"), ("negative", "Positive"), ("neg", "POS"), ("差评", "好评"), ("0.0", "1.0"), ("０", "１")],
)
def test_label_spellings(tmp_path, names):
    rows = [(text, names[label]) for text, label in ROWS]
    assert kept(train(write(tmp_path / "a.csv", rows))) == ROWS


def fails(path, *parts, **flags):
    with pytest.raises(DataError) as caught:
        train(path, **flags)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_unknown_labels_are_counted_with_the_nearest(tmp_path):
    rows = [*ROWS, ("一般", "postive"), ("还行", "postive"), ("嗯", "2")]
    fails(write(tmp_path / "a.csv", rows), "3 行", "'postive'×2", "最接近：正面", "'2'×1", "task.labels")


def test_a_file_too_small_to_carve_is_refused(tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_text("text,label\n好,1\n坏,0\n", encoding="utf-8")
    fails(path, "是空的")


def test_folder_of_splits_and_carved_ones(tmp_path):
    write(tmp_path / "train.tsv", ROWS[:40])
    write(tmp_path / "test.csv", ROWS[40:])
    splits = train(tmp_path)
    assert sorted(kept(splits)) == sorted(ROWS)
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
    assert len(kept(train(path))) == 40
