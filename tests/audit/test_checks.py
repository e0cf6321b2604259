"""All checks together: counts against brute force, lengths, and texts and files that no one should write."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.auditing import TASK, of_kind, split
from zhsenti.audit.checks import CHECKS
from zhsenti.audit.checks.base import AuditOptions
from zhsenti.audit.checks.doubts import suspicion
from zhsenti.audit.findings import Audit, shown
from zhsenti.audit.rows import AuditSplit
from zhsenti.audit.run import audit
from zhsenti.core.errors import DataError
from zhsenti.data.read import read_table
from zhsenti.data.split import normalise
from zhsenti.data.text import is_blank
from zhsenti.task import SentimentTask

TITLES = {kind.name: kind.title for name in CHECKS for kind in CHECKS.load(name).kinds}
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "chnsenticorp"


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
