"""Rows for the tests of the audit, and what its findings are asked for."""

from __future__ import annotations

import numpy as np

from zhsenti.audit.findings import Audit, Finding
from zhsenti.audit.rows import AuditSplit
from zhsenti.task import SentimentTask

TASK = SentimentTask()


def split(name, pairs, **more) -> AuditSplit:
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    return AuditSplit(name, f"{name}.csv", texts, labels, range(1, len(texts) + 1), **more)


def of_kind(result: Audit, kind: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.kind == kind]


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
