"""The audit's counts against brute force, its detectors against planted faults, and texts no one should write."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import KeywordPredictor
from zhsenti.audit.checks import CHECKS
from zhsenti.audit.checks.base import AuditOptions
from zhsenti.audit.checks.doubts import suspicion
from zhsenti.audit.checks.shortcuts import find_shortcuts, wilson_low
from zhsenti.audit.duplicates import CHECKED, near_pairs, shingles
from zhsenti.audit.findings import Audit, shown
from zhsenti.audit.rows import AuditSplit
from zhsenti.audit.run import audit
from zhsenti.core.errors import DataError
from zhsenti.data.read import read_table
from zhsenti.data.split import normalise
from zhsenti.data.tables import csv_safe
from zhsenti.data.text import is_blank, suspicious
from zhsenti.task import SentimentTask

TASK = SentimentTask()
TITLES = {kind.name: kind.title for name in CHECKS for kind in CHECKS.load(name).kinds}
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "chnsenticorp"


def split(name, pairs, **more):
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    return AuditSplit(name, f"{name}.csv", texts, labels, range(1, len(texts) + 1), **more)


def of_kind(found: Audit, kind: str):
    return [finding for finding in found.findings if finding.kind == kind]


# ── counts ────────────────────────────────────────────────────────────────────────────────────────────────────────

pieces = st.lists(st.sampled_from(["很好", "很差", "，", " ", "A", "ａ", "！", "\u200b", "房间"]), max_size=4)
tables = st.lists(st.tuples(pieces.map("".join), st.sampled_from([0, 1, None])), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(train=tables, dev=tables, test=tables)
def test_counts_equal_brute_force(train, dev, test):
    parts = {"train": train, "dev": dev, "test": test}
    found = audit([split(name, parts[name]) for name in ("test", "train", "dev")], TASK)
    read = {name: [pair for pair in rows if not is_blank(pair[0])] for name, rows in parts.items()}
    for a, b in combinations(("train", "dev", "test"), 2):
        exact, normal = {t for t, _ in read[a]}, {normalise(t) for t, _ in read[a]}
        assert found.exact_cross_split[f"{b}_in_{a}"] == sum(t in exact for t, _ in read[b])
        assert found.normalised_cross_split[f"{b}_in_{a}"] == sum(normalise(t) in normal for t, _ in read[b])
    for name, rows in read.items():
        assert found.repeated[name] == len(rows) - len({t for t, _ in rows})
    assert found.repeated_in_train == found.repeated["train"]

    def torn(rows):
        labels = defaultdict(set)
        for text, label in rows:
            labels[text].update(() if label is None else (label,))
        return {text for text, seen in labels.items() if len(seen) > 1}

    whole = [pair for rows in read.values() for pair in rows]
    assert found.conflicting_texts == len(torn(read["train"]))
    assert found.conflicting_texts_all == len(torn(whole))
    assert len(of_kind(found, "conflict")) == sum(t in torn(whole) for t, label in whole if label is not None)
    assert found.empty == sum(is_blank(t) for rows in parts.values() for t, _ in rows)
    assert found.unknown_labels == sum(label is None for rows in parts.values() for _, label in rows)
    assert len(of_kind(found, "exact_duplicate")) == sum(found.repeated.values())
    assert len(of_kind(found, "near_duplicate")) == sum(found.near_repeated.values())
    for finding in found.findings:  # every row exists, and is the one that is shown
        assert finding.title == TITLES[finding.kind]
        assert shown(parts[finding.split][finding.row - 1][0]) == finding.text
        if finding.other_row is not None:
            other = parts[finding.other_split][finding.other_row - 1][0]
            assert finding.kind.startswith("near") or normalise(other) == normalise(
                parts[finding.split][finding.row - 1][0]
            )
    assert Audit.model_validate_json(found.model_dump_json()) == found


@pytest.mark.skipif(not REAL.is_dir(), reason="ChnSentiCorp is not beside this checkout")
def test_chnsenticorp():
    splits = []
    for name in ("train", "dev", "test"):
        rows = read_table(REAL / f"{name}.tsv").rows
        splits.append(split(name, [(text, int(label)) for label, text in rows]))
    found = audit(splits, TASK)
    assert (found.exact_cross_split["test_in_train"], found.exact_cross_split["dev_in_train"]) == (331, 338)
    assert found.repeated_in_train == 1351
    assert (found.conflicting_texts, found.conflicting_texts_all) == (24, 36)
    assert 0 < len(found.shortcuts) <= 30
    assert sum(f.split == "test" and f.other_split == "train" for f in of_kind(found, "cross_split")) == 335
    texts, labels = list(splits[0].texts), np.array(splits[0].labels)
    flipped = np.random.default_rng(3).permutation(len(labels))[:192]
    labels[flipped] = 1 - labels[flipped]
    first = np.argsort(-suspicion(texts, labels.tolist())[0])[:480]
    assert np.isin(flipped, first).mean() >= 0.6


# ── near duplicates ───────────────────────────────────────────────────────────────────────────────────────────────


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


# ── characters ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("很好\ufffd", "U+FFFD"),
        ("很\x07好", "U+0007"),
        ("很\ud800好", "U+D800"),
        ("很\u200b好", "U+200B"),
        ("abc\u202e好", "U+202E"),
        ("房间锟斤拷很好", "锟斤拷"),
        ("cafÃ© trÃ¨s", "Ã©"),
        ("这家酒店很好".encode().decode("latin-1"), "乱码"),
        ("房间干净服务很好".encode().decode("gb18030"), "GBK"),
        ("一家人👨‍👩‍👧很开心☕️", None),
        ("naïve café，100 ℃～", None),
        ("换行\n和制表\t", None),
        ("联通联通", None),
    ],
)
def test_suspicious_characters(text, part):
    found = suspicious(text)
    assert any(part in reason for reason in found) if part else not found


@pytest.mark.parametrize("text", ["", " \t\n\u3000", "\u200b\u2060\ufeff", "\u3164\u2800", "\x00\x1f", "\ufe0f"])
def test_blank_texts(text):
    assert is_blank(text)
    assert not is_blank(text + "！")


# ── labels and features ───────────────────────────────────────────────────────────────────────────────────────────


def reviews(n, rng=None):
    rng = rng or np.random.default_rng(0)
    topics, good, bad = (
        ["房间", "早餐", "前台", "屏幕", "电池", "情节"],
        ["干净", "满意", "喜欢"],
        ["难吃", "失望", "退货"],
    )
    made = []
    for i in range(n):
        label = i % 2
        chosen = rng.choice(good if label else bad, 2)
        made.append(
            (f"第{rng.integers(10**6)}次，{rng.choice(topics)}{chosen[0]}，{rng.choice(topics)}{chosen[1]}", label)
        )
    return made


def test_a_planted_emoji_and_url_are_found_as_shortcuts():
    rows = reviews(800)
    rows = [
        (f"{text}🎁 见 http://a.cn" if label and i % 10 < 3 else text, label) for i, (text, label) in enumerate(rows)
    ]
    found = audit([split("train", rows)], TASK)
    marks = {s.feature: s for s in found.shortcuts if not s.meaning}
    assert {"🎁", "网址"} <= set(marks)
    assert (marks["🎁"].label, marks["🎁"].purity) == ("正面", 1.0)
    assert {"干净", "失望"} <= {s.feature for s in found.shortcuts if s.meaning}
    assert any("🎁" in warning and "没有词义" in warning for warning in found.warnings)
    assert [s.rows for s in found.shortcuts] == sorted((s.rows for s in found.shortcuts), reverse=True)


def test_a_common_label_is_no_shortcut():
    rows = [(f"第{i}条 好", 1 if i % 25 else 0) for i in range(1000)]
    assert not find_shortcuts([t for t, _ in rows], [k for _, k in rows], TASK.labels)
    assert wilson_low(22, 22) == pytest.approx(0.8513, abs=1e-3)


def test_flipped_labels_come_first():
    rows = reviews(600)
    flipped = set(range(0, 600, 50))
    rows = [(text, 1 - label if i in flipped else label) for i, (text, label) in enumerate(rows)]
    found = audit([split("train", rows)], TASK)
    suspects = of_kind(found, "suspect_label")
    assert found.suspects == len(suspects) <= 30
    assert {finding.row - 1 for finding in suspects} >= flipped
    assert [f.score for f in suspects] == sorted((f.score for f in suspects), reverse=True)
    assert all(finding.score > 0 for finding in suspects)


def test_suspicion_of_three_labels():
    task = SentimentTask(labels=("差", "中", "好"))
    rows = [(f"{i}号{word}", k) for i in range(60) for k, word in enumerate(("太失望", "还可以", "很喜欢"))]
    rows[3] = (rows[3][0], 2)
    scores, others = suspicion([t for t, _ in rows], [k for _, k in rows])
    assert scores.argmax() == 3
    assert others[3] == 0
    assert not audit([split("train", rows)], task).unknown_labels


@pytest.mark.parametrize("rows", [reviews(20), [(f"好{i}", 1) for i in range(100)], [("好", 1), ("差", 0)] * 50])
def test_too_little_for_suspects_is_said(rows):
    found = audit([split("train", rows)], TASK)
    assert found.suspects == 0
    assert any("没有检查标签" in note for note in found.notes)


def test_the_adapter_reads_the_top_suspects_alone():
    rows = [(f"第{i}次{'很好，很满意' if i % 2 else '很差，太吵'}", i % 2) for i in range(200)]
    rows[8], rows[9] = (rows[8][0], 1), (rows[9][0], 0)
    predictor = KeywordPredictor(strength=4.0)
    found = audit([split("train", rows)], TASK, AuditOptions(adapter=predictor.log_probs, adapter_rows=10))
    assert predictor.calls == [10]
    assert found.adapter_disagreements == 2
    assert {finding.row for finding in of_kind(found, "adapter_disagrees")} == {9, 10}
    assert audit([split("train", rows)], TASK).adapter_disagreements is None


def test_shares_and_lengths_are_warned_of():
    rng = np.random.default_rng(1)
    rare = [
        (f"第{i}条" + ("好" * int(rng.integers(30, 60)) if i % 12 == 0 else "差"), int(i % 12 == 0)) for i in range(400)
    ]
    even = [(f"另{i}条", i % 2) for i in range(400)]
    text = "\n".join(audit([split("train", rare), split("test", even)], TASK).warnings)
    for part in ("不平衡", "卡方", "长短"):
        assert part in text
    assert not audit([split("train", even)], TASK).warnings


def test_token_lengths_are_of_the_whole_prompt():
    task = SentimentTask(template="“{aspect}”：{text}。", max_length=16)
    rows = split("train", [("好" * 9, 1), ("好" * 12, 0)], aspects=["服务", "服务"])
    found = audit([rows], task, AuditOptions(count_tokens=lambda texts: [len(text) for text in texts]))
    stats = found.splits[0].tokens
    assert (stats.max, stats.median, stats.n_over, stats.measured) == (18, 16.5, 1, True)
    assert [finding.row for finding in of_kind(found, "too_long")] == [2]
    assert not audit([rows], task).splits[0].tokens.measured


def test_aspects_make_texts_different():
    rows = split("train", [("菜好，服务差", 1), ("菜好，服务差", 0)], aspects=["菜", "服务"])
    found = audit([rows], SentimentTask(template="{aspect}{text}"))
    assert (found.conflicting_texts, found.repeated_in_train) == (0, 0)


# ── hostile and odd input ─────────────────────────────────────────────────────────────────────────────────────────


def test_hostile_texts_are_reported_not_fatal():
    hostile = ["\ud800坏", "好" * 1_000_000, "<script>alert(1)</script>", '=HYPERLINK("http://x")', "\x00", "\u202e反"]
    rows = [(text, i % 2) for i, text in enumerate(hostile * 10)]
    found = audit([split("train", rows), split("test", rows[:6])], TASK)
    Audit.model_validate_json(found.model_dump_json())
    assert found.exact_cross_split["test_in_train"] == 5  # "\x00" shows nothing: it is empty, not a leak
    assert found.empty == 11
    assert max(len(finding.text) for finding in found.findings) < 400


def test_unlabelled_and_odd_splits():
    texts = AuditSplit("made_in_china", "a.csv", ["好", "好", "坏"], None, [1, 2, 3])
    found = audit([texts, split("b", [("好", None)])], TASK)
    assert [s.labelled for s in found.splits] == [False, True]
    assert found.exact_cross_split == {"b_in_made_in_china": 1}
    assert (found.unknown_labels, found.repeated_in_train) == (1, 1)
    with pytest.raises(DataError, match="不止一份"):
        audit([texts, texts], TASK)
    with pytest.raises(DataError, match="没有可审计"):
        audit([split("train", [])], TASK)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", " =1", "\n=1", "＝1"])
def test_no_cell_is_a_formula(text):
    assert csv_safe(text) == f"'{text}"
    assert csv_safe("a" + text) == "a" + text
    assert csv_safe(-1.5) == -1.5
