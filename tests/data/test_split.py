"""Splits that identical texts never cross, and honest counts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

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
