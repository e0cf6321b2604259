"""Shortcuts and wrong labels: planted ones are found, others are not made up."""

from __future__ import annotations

import pytest

from tests.audit.auditing import TASK, of_kind, reviews, split
from tests.fakes import KeywordPredictor
from zhsenti.audit.checks.base import AuditOptions
from zhsenti.audit.checks.doubts import suspicion
from zhsenti.audit.checks.shortcuts import PURITY, find_shortcuts
from zhsenti.audit.run import audit
from zhsenti.core.intervals import wilson
from zhsenti.task import SentimentTask


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
    assert wilson(21, 21)[0] < PURITY <= wilson(22, 22)[0] == pytest.approx(0.8513, abs=1e-3)


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
