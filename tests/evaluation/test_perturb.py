"""Perturbations: pure, harmless on any text, and none of what would change the meaning for a person."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opencc import OpenCC
from pypinyin import lazy_pinyin

from zhsenti.evaluation.sections import perturb as module
from zhsenti.evaluation.sections.perturb import KEPT, NEUTRAL_EMOJI, PERTURBATIONS, perturb

REVIEW = "房间很干净，前台态度也好，就是隔音不太好。价格300元，含2份早餐！"
ANY_TEXT = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("不很好房間间差，。！?…\n\ud800\U0001f600Ａ１aZ9、")),
    max_size=40,
)
KINDS = pytest.mark.parametrize("kind", list(PERTURBATIONS))


@KINDS
@given(text=ANY_TEXT, seed=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_any_text_changes_the_same_way_twice_or_not_at_all(kind, text, seed):
    changed = perturb(kind, text, seed, "正面")
    assert changed == perturb(kind, text, seed, "正面")
    if changed is not None:
        assert changed != text
        assert changed.strip()
    kept = [c for c in text if c in KEPT]
    if changed is not None and kind != "traditional":  # there 没 becomes 沒, the same word
        assert [c for c in changed if c in KEPT] == kept


@KINDS
def test_every_kind_changes_an_ordinary_review(kind):
    assert perturb(kind, REVIEW, 42, "负面") is not None
    seeds = {perturb(kind, REVIEW, seed, "负面") for seed in range(20)}
    assert len(seeds) > 1 or kind in ("traditional", "width", "suffix")


def test_homophones_sound_alike_and_are_a_tenth():
    for seed in range(30):
        changed = perturb("homophone", REVIEW, seed, "")
        different = [i for i, (a, b) in enumerate(zip(REVIEW, changed, strict=True)) if a != b]
        assert len(different) == 2  # 23 Han characters may change
        before, after = lazy_pinyin(REVIEW, errors=list), lazy_pinyin(changed, errors=list)
        assert all(before[i] == after[i] for i in different)
    assert perturb("homophone", "好", 0, "") == "郝"  # the only common character of that tone
    assert perturb("homophone", "不太", 0, "") is None


def test_no_homophone_brings_a_sign_or_a_judgement():
    by_sound, by_syllable = module._sound_tables()
    written = {c for table in (by_sound, by_syllable) for characters in table.values() for c in characters}
    assert not written & (KEPT | module.POLAR)
    assert 3700 < len(written) < 3755
    assert "布" in by_sound["bu4"]
    assert "不" not in by_sound["bu4"]


def test_traditional_goes_there_and_back():
    changed = perturb("traditional", REVIEW, 0, "")
    assert changed == "房間很乾淨，前臺態度也好，就是隔音不太好。價格300元，含2份早餐！"
    assert OpenCC("t2s").convert(changed) == REVIEW
    assert perturb("traditional", changed, 0, "") is None
    assert perturb("traditional", "好", 0, "") is None


def test_punctuation_leaves_words_numbers_and_questions():
    seen = {perturb("punctuation", "不，好！1,000元？“值”。", seed, "") for seed in range(20)}
    assert seen == {"不,好!1,000元？“值”.", "不 好 1,000元？“值”"}
    assert {perturb("punctuation", "a,b;c!", seed, "") for seed in range(20)} == {"a，b；c！", "a b c"}
    assert {perturb("punctuation", "房间3.5分好.但...", seed, "") for seed in range(20)} == {
        "房间3.5分好。但...",
        "房间3.5分好 但...",
    }
    assert perturb("punctuation", "没有标点？", 0, "") is None


def test_width_goes_both_ways():
    wide = perturb("width", "wifi好，住了3天", 0, "")
    assert wide == "ｗｉｆｉ好，住了３天"
    assert perturb("width", wide, 0, "") == "wifi好，住了3天"
    assert unicodedata.normalize("NFKC", wide).replace(",", "，") == "wifi好，住了3天"
    assert perturb("width", "好", 0, "") is None


def test_what_is_added_is_all_that_changes():
    for seed in range(20):
        assert perturb("spaces", REVIEW, seed, "").replace(" ", "") == REVIEW
        with_emoji = perturb("emoji", REVIEW, seed, "")
        assert "".join(c for c in with_emoji if c not in NEUTRAL_EMOJI) == REVIEW
        assert 1 <= len(with_emoji) - len(REVIEW) <= 2
    assert perturb("spaces", "好。", 0, "") is None
    assert perturb("suffix", "很差", 0, "正面") == "很差\n情感倾向：正面"


def test_repeats_are_two_to_four_in_all():
    seen = {perturb("repeat", "好！", seed, "") for seed in range(40)}
    assert seen == {"好好！！", "好好好！！！", "好好好好！！！！"}
    assert perturb("repeat", "不", 0, "") is None
    assert module.repeat("很一般", Random(0), "") in ("很一般般", "很一般般般", "很一般般般般")
