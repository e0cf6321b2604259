"""Rows that a keyword predictor judges rightly, and that predictor as an adapter to compare."""

from __future__ import annotations

from tests.fakes import KeywordPredictor
from zhsenti.data.split import Example
from zhsenti.evaluation.scoring import EvalRows
from zhsenti.evaluation.systems import System, adapter_system
from zhsenti.task import SentimentTask

TASK = SentimentTask()


def examples(n: int) -> list[Example]:
    good = [Example(f"房间很好，第{i}次来{'呀' * (i % 7)}", 1) for i in range(n // 2)]
    bad = [Example(f"房间很差，第{i}次来{'呀' * (i % 5)}", 0) for i in range(n - n // 2)]
    return [row for pair in zip(good, bad, strict=False) for row in pair] + bad[len(good) :]


def eval_rows(n: int = 200) -> EvalRows:
    return EvalRows(TASK.labels, examples(n), [i % 4 != 0 for i in range(n)])


def adapter(predictor: KeywordPredictor, digest: str = "a") -> System:
    return adapter_system(lambda: predictor, "label_scoring", {"adapter_sha256": digest, "base": "r1"})
