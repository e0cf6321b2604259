"""Explanations by occlusion: spans, and effects against values worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import KeywordPredictor
from zhsenti.prediction.explain import (
    MAX_CLAUSES,
    MAX_WORDS,
    NOTHING,
    clause_variants,
    clauses,
    effects,
    explain,
    word_units,
    word_variants,
    words,
)
from zhsenti.prediction.temperature import log_odds

LONG = "房间不大，服务很好。" + "，".join(f"第{i}天在附近的公园里散步吃饭" for i in range(20)) + "。隔音太吵！"
ANY_TEXT = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("，。！ \n\ud800\U0001f600好不1.,a")), max_size=60
)


@given(ANY_TEXT)
@settings(deadline=None)
def test_spans_tile_any_text_in_order(text):
    for spans in (clauses(text), words(text)):
        assert "".join(text[start:end] for start, end in spans) == text
        assert all(start < end for start, end in spans)
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])][: len(spans)]


@given(ANY_TEXT)
@settings(deadline=None, max_examples=60)
def test_any_text_is_explained_and_no_variant_is_blank(text):
    seen: list[str] = []

    def score(texts, aspects):
        seen.extend(texts[1:] if texts[0] == text else texts)
        return KeywordPredictor().log_probs(texts, aspects)

    explanation = explain(text, score)
    assert all(variant.strip() for variant in seen)
    for unit in (*explanation.clauses, *explanation.words):
        assert unit.text == text[unit.start : unit.end].encode("utf-8", "replace").decode()
    json.dumps(explanation.model_dump(), ensure_ascii=False).encode()  # no lone surrogate is left


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("房间大，很干净！！下次来。", ["房间大，", "很干净！！", "下次来。"]),
        ("他说“很好。”我不信", ["他说“很好。”", "我不信"]),
        ("位置好 房间干净", ["位置好 ", "房间干净"]),
        ("wifi is good 1,000元 3.5分 12:30到", ["wifi is good 1,000元 3.5分 12:30到"]),
        ("价格贵,服务差.", ["价格贵,", "服务差."]),
        ("第一行\n\n第二行", ["第一行\n\n", "第二行"]),
        ("唉……算了", ["唉……", "算了"]),
    ],
)
def test_clauses_by_hand(text, parts):
    assert [text[start:end] for start, end in clauses(text)] == parts


def test_words_are_words_and_places_count_characters():
    text = "😀房间𠀀不大，很干净！ good👍"
    assert [text[start:end] for start, end in word_units(text)] == [
        "😀", "房间", "𠀀", "不大", "很", "干净", "good", "👍",
    ]  # fmt: skip
    assert word_units("！！ \u200d\ufe0f…") == []


def test_effect_is_the_fall_of_the_log_odds():
    """The keyword fake gives logit 2 for each good word and -2 for each bad one; 满意 is one word, 不错 another."""
    explanation = explain("住得满意，性价比不错，就是失望。", KeywordPredictor().log_probs)
    assert {u.text: round(u.effect, 5) for u in explanation.clauses} == {
        "住得满意，": 2.0, "性价比不错，": 2.0, "就是失望。": -2.0,
    }  # fmt: skip
    by_word = {u.text: round(u.effect, 5) for u in explanation.words}
    assert (by_word["满意"], by_word["不错"], by_word["失望"]) == (2.0, 2.0, -2.0)
    assert all(effect == 0 for word, effect in by_word.items() if word not in ("满意", "不错", "失望"))
    for_negative = explain("住得满意，性价比不错，就是失望。", KeywordPredictor().log_probs, predicted=0)
    assert [u.effect for u in for_negative.clauses] == [-u.effect for u in explanation.clauses]


def test_log_odds_stay_exact_where_a_probability_rounds_to_one():
    assert log_odds(np.array([-30.0, -9.4e-14], dtype=np.float32), 1) == pytest.approx(30.0)
    three = np.log([[0.2, 0.3, 0.5]])
    assert log_odds(three, 2) == pytest.approx([0.0])
    assert log_odds(three, 0) == pytest.approx([np.log(0.2 / 0.8)])
    assert np.isfinite(log_odds(np.array([-np.inf, 0.0]), 0))


def test_effects_stand_beside_their_spans():
    variants = clause_variants("好，坏")
    units = effects(variants, np.log([0.5, 0.5]), np.log([[0.75, 0.25], [0.25, 0.75]]), 1)
    assert [u.text for u in units] == ["好，", "坏"]
    assert [u.effect for u in units] == pytest.approx([np.log(3), -np.log(3)])


def test_a_text_of_one_unit_is_compared_with_nothing():
    assert clause_variants("满意").texts == [NOTHING]
    assert word_variants("满意", []).texts == [NOTHING]
    assert clause_variants("！！").texts == []
    assert clause_variants("满意\u200b").texts == [NOTHING], "predictors refuse what only has invisible characters"


def test_a_long_text_looks_into_its_most_influential_clauses():
    predictor = KeywordPredictor()
    assert len(word_units(LONG)) > MAX_WORDS
    explanation = explain(LONG, predictor.log_probs, predicted=1)
    assert len(explanation.words) == MAX_WORDS
    assert [u.start for u in explanation.words] == sorted(u.start for u in explanation.words)
    assert {"太吵", "好"} <= {u.text for u in explanation.words if u.effect != 0}
    assert len(predictor.calls) == 2


def test_very_many_clauses_go_together():
    text = "好，" * 500
    variants = clause_variants(text)
    assert len(variants.spans) <= MAX_CLAUSES
    assert "".join(text[start:end] for start, end in variants.spans) == text


def test_aspect_goes_with_every_variant():
    seen = []

    def score(texts, aspects):
        seen.append((len(texts), aspects))
        return KeywordPredictor().log_probs(texts, aspects)

    explain("住得满意，房间小", score, "服务")
    assert seen
    assert all(aspects == ["服务"] * count for count, aspects in seen)
