"""Does a judgement survive what should not change it? Test rows changed in ways a person does not mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zhsenti.data.split import Example, sample
from zhsenti.data.text import readable
from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Interval, Model
from zhsenti.evaluation.sections.perturb import perturb


class FlipRate(Model):
    """How often one kind of change turns the predicted label into another.

    Attributes:
        title: The kind (Chinese).
        rate: Share of the changed rows whose label is another than before.
        ci95: Its Wilson interval.
        n: Changed rows.
        accuracy_before: On these rows as they were.
        accuracy_after: On the changed ones.
        example: The first row with another label, original and changed; None where there is none.
    """

    title: str
    rate: float
    ci95: Interval
    n: int
    accuracy_before: float
    accuracy_after: float
    example: tuple[str, str] | None


def perturbed_rows(
    examples: Sequence[Example], kind: str, n: int, seed: int, labels: Sequence[str]
) -> list[tuple[int, str]]:
    """Change a sample of rows, which is stratified and the same for every kind.

    Args:
        examples: The rows. Where a change writes in a label, label k becomes label C-1-k; the middle label becomes
            label 0.
        kind: Of change, a key of ``PERTURBATIONS``.
        n: How many rows to sample; 0 takes all.
        seed: Of the sample and of the changes.
        labels: In order of sentiment.

    Returns:
        Index into ``examples`` and changed text of each row that ``kind`` changes.
    """
    numbered = [replace(example, row=index) for index, example in enumerate(examples)]
    changed = []
    for row in sample(numbered, n, seed):
        opposite = len(labels) - 1 - row.label
        text = perturb(kind, row.text, seed, labels[opposite if opposite != row.label else 0])
        if text is not None:
            changed.append((row.row, text))
    return changed


def flip_rate(
    title: str,
    before: np.ndarray,
    after: np.ndarray,
    true: np.ndarray,
    originals: Sequence[str],
    changed: Sequence[str],
) -> FlipRate:
    """Compare judgements of N >= 1 rows before and after a change.

    Args:
        title: The kind of change (Chinese).
        before: Class log-probabilities of the original texts, (N, C).
        after: The same of the changed texts.
        true: Classes, (N,).
        originals: The texts as they were.
        changed: The texts after the change.
    """
    was, now = np.asarray(before).argmax(axis=1), np.asarray(after).argmax(axis=1)
    flipped = np.flatnonzero(was != now)
    rate, ci95 = share(len(flipped), len(was))
    example = (readable(originals[flipped[0]]), readable(changed[flipped[0]])) if len(flipped) else None
    return FlipRate(
        title=title,
        rate=rate,
        ci95=ci95,
        n=len(was),
        accuracy_before=float((was == np.asarray(true)).mean()),
        accuracy_after=float((now == np.asarray(true)).mean()),
        example=example,
    )
