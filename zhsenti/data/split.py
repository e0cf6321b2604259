"""When two texts count as the same, and splits that such texts never cross."""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One labelled review.

    Attributes:
        text: The review.
        label: Index of its class in the task's labels.
        aspect: What it is asked about; None where the task has no aspects.
        row: Its data row in the source, from 1 on; the header is not counted.
        extra: Columns that were asked to be kept, as (name, value).
    """

    text: str
    label: int
    aspect: str | None = None
    row: int = 0
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def cells(self) -> tuple[str, int, str | None]:
        """What a data set's hash is of (``core.hashing.rows_sha256``)."""
        return self.text, self.label, self.aspect


def normalise(text: str) -> str:
    """The identity of a text: width-folded (NFKC), lower-cased, without spaces, punctuation and symbols.

    A text that is nothing but those (emoji, "！！！") keeps its folded form, or all such texts would be one.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    kept = "".join(c for c in folded if unicodedata.category(c)[0] not in "PSZC")
    return kept or folded.strip()


@dataclass(frozen=True)
class DatasetSplits:
    """The three parts of a data set.

    Attributes:
        name: A value that ``--dataset`` accepts.
        source: Where it came from (Chinese).
        train: Rows to train on.
        dev: Rows to choose by: checkpoints, temperature.
        test: Rows to measure on.
        sha256: Of the rows kept, however they are ordered and cut; "" until ``sources.report`` has hashed them.
        notes: Chinese lines for the user.
    """

    name: str
    source: str
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sha256: str = ""
    notes: list[str] = field(default_factory=list)

    def leak_free(self) -> list[bool]:
        """Whether each test row's normalised text is absent from train; dev fits no weights and is not counted."""
        seen = {normalise(example.text) for example in self.train}
        return [normalise(example.text) not in seen for example in self.test]


def stratified_split(
    examples: Sequence[Example], seed: int, dev_share: float = 0.1, test_share: float = 0.1
) -> tuple[list[Example], list[Example], list[Example]]:
    """Cut rows in three. Rows with the same normalised text go to the same split, whole.

    Groups of such rows are stratified by the label of their first row.

    Args:
        examples: The rows.
        seed: The result is a function of the rows and the seed.
        dev_share: Of all rows, from 0 to 1.
        test_share: Of all rows, from 0 to 1.

    Returns:
        Train, dev and test, each in the order of the source.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[normalise(example.text)].append(index)
    by_label: dict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_label[examples[group[0]].label].append(group)

    chosen: dict[str, list[int]] = {"train": [], "dev": [], "test": []}
    for label in sorted(by_label):
        pool = by_label[label]
        random.Random(f"{seed}/{label}").shuffle(pool)
        rows = sum(map(len, pool))
        quota = {"dev": rows * dev_share, "test": rows * test_share}
        for group in pool:
            split = next((name for name, left in quota.items() if left >= 0.5), "train")
            if split != "train":
                quota[split] -= len(group)
            chosen[split] += group
    train, dev, test = ([examples[i] for i in sorted(chosen[name])] for name in ("train", "dev", "test"))
    return train, dev, test


def sample(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """Draw at most ``limit`` rows (0: all) with the labels in their original shares, in the original order."""
    if not limit or limit >= len(examples):
        return list(examples)
    by_label: dict[int, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        by_label[example.label].append(index)
    # Largest remainders, and at least one row of every label where the limit allows it.
    shares = {label: limit * len(rows) / len(examples) for label, rows in by_label.items()}
    quota = {label: max(int(share), 1 if limit >= len(by_label) else 0) for label, share in shares.items()}
    by_remainder = sorted(shares, key=lambda label: (int(shares[label]) - shares[label], label))
    while sum(quota.values()) < limit:
        for label in by_remainder:
            if sum(quota.values()) < limit and quota[label] < len(by_label[label]):
                quota[label] += 1
    while sum(quota.values()) > limit:
        quota[max(quota, key=lambda label: quota[label])] -= 1
    picked = [
        i for label in sorted(by_label) for i in random.Random(f"{seed}/{label}").sample(by_label[label], quota[label])
    ]
    return [examples[i] for i in sorted(picked)]
