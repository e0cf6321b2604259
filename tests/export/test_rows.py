"""Which reviews an export is compared on."""

from __future__ import annotations

import json

import pytest

from tests.export.exporting import write_reviews
from zhsenti.artifact import Manifest
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.export.config import ExportConfig
from zhsenti.export.rows import parity_rows
from zhsenti.task import SentimentTask

BASE = {"model_id": "tiny", "revision": "r"}
PLAIN = Manifest("label_scoring", SentimentTask(), BASE)
ASPECT = Manifest("label_scoring", SentimentTask(template="{aspect}：{text}"), BASE)


def rows_of(dataset, manifest=PLAIN, **changes):
    return parity_rows(ExportConfig(dataset=str(dataset), **changes), manifest)


def test_a_file_gives_its_own_rows_without_labels_in_their_order(tmp_path):
    path = write_reviews(tmp_path / "hotel.csv", [f"评论{i}" for i in range(70)])
    rows = rows_of(path)
    assert rows.texts == [f"评论{i}" for i in range(70)]  # fewer than --samples: all of them
    assert (rows.names[0], rows.names[-1]) == ("hotel:1", "hotel:70")
    assert (rows.source, rows.aspects, rows.notes) == (str(path), None, [])


def test_a_sample_is_drawn_by_the_seed(tmp_path):
    path = write_reviews(tmp_path / "a.csv", [f"评论{i}" for i in range(200)])
    first = rows_of(path, samples=50, seed=1)
    assert first == rows_of(path, samples=50, seed=1)
    assert first.texts != rows_of(path, samples=50, seed=2).texts
    assert len(set(first.texts)) == 50
    numbers = [int(name.removeprefix("a:")) for name in first.names]
    assert numbers == sorted(numbers)
    assert first.texts == [f"评论{number - 1}" for number in numbers]


def test_rows_that_cannot_be_used_are_skipped_and_counted(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text('text,label\n好评,1\n" ",0\n差评,x\n,1\n\u200b,0\n多了,一,格\n最后,1\n', encoding="utf-8")
    rows = rows_of(path)
    assert rows.texts == ["好评", "差评", "最后"]  # a label nobody knows is no fault here
    assert rows.names == ["bad:1", "bad:3", "bad:7"]
    assert rows.notes == ["bad.csv：跳过用不了的 4 行"]


def test_broken_lines_of_jsonl_are_skipped_too(tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = ['{"review": "好"}', "{", '{"other": 1}', '{"review": ["不"]}', '{"review": "坏"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = rows_of(path)
    assert (rows.texts, rows.names) == (["好", "坏"], ["bad:1", "bad:5"])
    assert rows.notes == ["bad.jsonl：跳过用不了的 3 行"]


def test_a_file_without_a_usable_text_is_refused(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text('{"text": ""}\n{"text": " "}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"没有能用的文本[\s\S]*2 行"):
        rows_of(path)


def test_columns_are_found_or_named(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("说法,方向\n很好,服务\n很差,\n", encoding="utf-8")
    with pytest.raises(DataError, match="--text_column"):
        rows_of(path)
    assert rows_of(path, text_column="说法").texts == ["很好", "很差"]
    with pytest.raises(DataError, match="--aspect_column"):
        rows_of(path, ASPECT, text_column="说法")
    rows = rows_of(path, ASPECT, text_column="说法", aspect_column="方向")
    assert (rows.texts, rows.aspects) == (["很好"], ["服务"])
    assert rows.notes == ["odd.csv：跳过用不了的 1 行"]  # the one without an aspect


@pytest.fixture
def splits(tmp_path):
    """A folder with 30 clean test rows, 12 whose text was trained on (first in the file), and 20 dev rows."""
    files = {
        "train": [f"训练{i}" for i in range(60)],
        "dev": [f"验证{i}" for i in range(20)],
        "test": [f"训练{i}！" for i in range(12)] + [f"测试{i}" for i in range(30)],
    }
    for name, texts in files.items():
        lines = [f"{text},{i % 2}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def test_clean_test_rows_come_first_then_dev_then_what_was_trained_on(splits):
    rows = rows_of(splits, samples=50)
    assert rows.texts[:30] == [f"测试{i}" for i in range(30)]
    assert (rows.names[0], rows.names[29]) == ("test:13", "test:42")
    assert len(set(rows.texts[30:])) == 20
    assert all(name.startswith("dev:") for name in rows.names[30:])
    assert rows_of(splits, samples=50, seed=7).texts == rows.texts  # every row of two groups: nothing to draw
    whole = rows_of(splits, samples=400)
    assert len(whole.texts) == 62
    assert whole.texts[50:] == [f"训练{i}！" for i in range(12)]


def test_the_draw_from_splits_is_by_the_seed_too(splits):
    lines = [f"更多{i},{i % 2}" for i in range(100)]
    (splits / "test.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    drawn = [rows_of(splits, samples=50, seed=seed).texts for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(text.startswith("更多") for text in drawn[0])


def trained_on(path):
    data = load_dataset(DataConfig(dataset=str(path)), SentimentTask())
    known = {"dataset": str(path), "name": data.name, "sha256": data.sha256, "seed": 42}
    return Manifest("label_scoring", SentimentTask(), BASE, data=known), data


def test_auto_is_what_the_adapter_was_trained_on(review_csv):
    manifest, data = trained_on(review_csv)
    rows = rows_of("auto", manifest)
    assert sorted(rows.texts) == sorted(e.text for e in [*data.test, *data.dev])
    assert not set(rows.texts) & {e.text for e in data.train}
    assert rows.source == str(review_csv)


def test_training_data_that_is_gone_is_one_message_that_says_what_to_give(review_csv, tmp_path):
    with pytest.raises(ConfigError, match=r"找不到拿来核对的真实评论[\s\S]*--dataset"):
        rows_of("auto")
    path = tmp_path / "mine.csv"
    path.write_bytes(review_csv.read_bytes())
    manifest, _ = trained_on(path)
    path.write_text(path.read_text(encoding="utf-8") + "又来一条,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"找不到拿来核对的真实评论[\s\S]*已经变了"):
        rows_of("auto", manifest)
    path.unlink()
    with pytest.raises(ConfigError, match=r"找不到拿来核对的真实评论[\s\S]*mine\.csv"):
        rows_of("auto", manifest)


def test_a_path_that_does_not_exist_is_a_fault_of_the_data(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        rows_of(tmp_path / "nowhere.csv")


def test_aspects_come_from_splits_as_well(tmp_path):
    for name in ("train", "dev", "test"):
        rows = [{"text": f"{name}{i}", "label": i % 2, "aspect": ("服务", "位置")[i % 2]} for i in range(20)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = rows_of(tmp_path, ASPECT)
    assert rows.aspects == ["服务", "位置"] * 20
