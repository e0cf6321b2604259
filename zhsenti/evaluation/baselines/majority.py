"""The commonest label of the training rows for every text: what knowing nothing gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from zhsenti.evaluation.systems import Context, System, floored_log


def majority(context: Context) -> System:
    """The training labels' shares as every text's probabilities."""
    system = partial(System, "majority", "多数类", "trivial", english="majority")
    if not context.train:
        return system(not_applicable="没有训练数据，不知道哪一类最多")
    counts = np.bincount([row.label for row in context.train], minlength=len(context.task.labels))

    def score(
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        return np.tile(floored_log(counts / counts.sum()), (len(texts), 1))

    note = f"训练数据里最多的是“{context.task.labels[int(counts.argmax())]}”（{counts.max()} / {counts.sum()}）"
    identity = {"system": "majority", "counts": counts.tolist()}
    return system(identity=identity, prepare=lambda: (score, []), gives_scores=False, notes=(note,))
