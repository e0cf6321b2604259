"""Near duplicates against brute force, and what makes two texts different."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.auditing import TASK, of_kind, split
from zhsenti.audit.duplicates import CHECKED, near_pairs, shingles
from zhsenti.audit.run import audit
from zhsenti.task import SentimentTask


def grams(text):
    return {text[i : i + 3] for i in range(max(1, len(text) - 2))} if text else set()


words = st.lists(st.sampled_from(["房间", "很干净", "服务好", "下次再来", "价格贵", "前台", "x"]), max_size=12).map(
    "".join
)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(words, max_size=8, unique=True), seed=st.integers(0, 5))
def test_near_pairs_are_those_of_brute_force(texts, seed):
    similarity = {
        (j, i): len(grams(texts[i]) & grams(texts[j])) / max(1, len(grams(texts[i]) | grams(texts[j])))
        for i, j in combinations(range(len(texts)), 2)
    }
    found = {(later, earlier): s for later, earlier, s in near_pairs(texts, seed)}
    assert all(similarity[pair] == pytest.approx(s) and s >= 0.8 for pair, s in found.items())
    # Below 0.95 a miss of the hashing is rare, but may happen: at 0.95 it is (1 - 0.95^6)^20 = 1e-12.
    assert {pair for pair, s in similarity.items() if s >= 0.95} <= set(found)


@given(text=st.text(st.characters(), max_size=40))
def test_shingles_are_exact(text):
    assert len(shingles(text)) == len(grams(text))


def test_many_alike_texts_stay_linear():
    pairs = near_pairs([f"这家酒店的第{i}个房间很好很干净服务也不错下次还会再来住的" for i in range(3000)])
    assert len({later for later, _, _ in pairs}) > 2900
    assert len(pairs) <= CHECKED * 3000


def test_near_texts_are_found_within_and_across_splits():
    long = "这家酒店位置很好，离地铁站很近，房间也很干净，服务员态度热情，早餐品种丰富，下次还会再来住"
    train = [(long, 1), ("完全是另外的一条评论，说的是电脑", 0), (long.replace("热情", "热心"), 1), (long + "！", 1)]
    found = audit([split("train", train), split("test", [(long.replace("丰富", "很多"), 1)])], TASK)
    assert found.near_repeated == {"train": 2, "test": 0}
    assert found.near_cross_split == {"test_in_train": 1}
    assert found.normalised_cross_split == {"test_in_train": 0}
    [finding] = of_kind(found, "near_cross_split")
    assert (finding.other_split, finding.other_row) == ("train", 1)
    assert 0.8 <= finding.score < 1


def test_aspects_make_texts_different():
    rows = split("train", [("菜好，服务差", 1), ("菜好，服务差", 0)], aspects=["菜", "服务"])
    found = audit([rows], SentimentTask(template="{aspect}{text}"))
    assert (found.conflicting_texts, found.repeated_in_train) == (0, 0)
