"""The rows that an audit looks at, of all splits in one list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from zhsenti.audit.findings import Finding, Kind, shown
from zhsenti.data.text import is_blank

SPLIT_ORDER = ("train", "dev", "test")


@dataclass(frozen=True)
class AuditSplit:
    """One file or part, of N rows.

    Attributes:
        name: train, dev, test, or the file's name without its ending.
        source: Where the rows are from.
        texts: N texts.
        labels: A class index, or None where it is unknown or empty; None as a whole: there is no label column.
        rows: The data row in the source of each text, from 1 on.
        aspects: N aspects; None where the task has none.
        raw_labels: The labels as written, to show those that the task does not know.
        note: The file's encoding (Chinese).
    """

    name: str
    source: str
    texts: Sequence[str]
    labels: Sequence[int | None] | None
    rows: Sequence[int]
    aspects: Sequence[str] | None = None
    raw_labels: Sequence[str] | None = None
    note: str = ""


class Rows:
    """All splits' rows in one list: train, dev and test first, then others as given. An index is a position in it.

    Attributes:
        label_names: The task's labels, by class index.
        splits: The splits in that order.
        names: Their names.
        of: For each split the indices of its rows.
        texts: The texts.
        labels: Class indices; None where there is no label or the task does not know it.
        aspects: The aspects; "" where there are none.
    """

    def __init__(self, splits: Sequence[AuditSplit], label_names: Sequence[str]) -> None:
        rank = {name: place for place, name in enumerate(SPLIT_ORDER)}
        self.label_names = label_names
        self.splits = sorted(splits, key=lambda split: rank.get(split.name, len(rank)))
        self.names = [split.name for split in self.splits]
        self.of: dict[str, range] = {}
        self.texts: list[str] = []
        self.labels: list[int | None] = []
        self.aspects: list[str] = []
        self._places: list[tuple[str, int]] = []  # split and number of each row
        self._written: list[str] = []
        for split in self.splits:
            n = len(split.texts)
            self.of[split.name] = range(len(self.texts), len(self.texts) + n)
            labels = split.labels if split.labels is not None else [None] * n
            self.texts += split.texts
            self.labels += labels
            self.aspects += split.aspects if split.aspects is not None else [""] * n
            self._places += [(split.name, row) for row in split.rows]
            raw = split.raw_labels if split.raw_labels is not None else [""] * n
            self._written += [
                as_written if label is None else label_names[label]
                for label, as_written in zip(labels, raw, strict=True)
            ]
        self._labelled = {split.name for split in self.splits if split.labels is not None}

    @cached_property
    def blank(self) -> frozenset[int]:
        """The rows whose text holds nothing to read."""
        return frozenset(i for i, text in enumerate(self.texts) if is_blank(text))

    @cached_property
    def usable(self) -> list[int]:
        """The rows that have a known label and something to read."""
        return [i for i, label in enumerate(self.labels) if label is not None and i not in self.blank]

    def split(self, index: int) -> str:
        """The name of the row's split."""
        return self._places[index][0]

    def number(self, index: int) -> int:
        """The row's number in its source, from 1 on."""
        return self._places[index][1]

    def is_labelled(self, index: int) -> bool:
        """Whether the row's split has a label column."""
        return self.split(index) in self._labelled

    def written(self, index: int) -> str:
        """The label's name; as it stands in the file where the task does not know it."""
        return shown(self._written[index], 60)

    def label_counts(self, split: str) -> dict[str, int]:
        """How many rows of a split have each label, in the order of the task's labels."""
        counts = Counter(self.labels[i] for i in self.of[split])
        return {name: counts[label] for label, name in enumerate(self.label_names)}

    def finding(
        self, kind: Kind, index: int, detail: str = "", other: int | None = None, score: float | None = None
    ) -> Finding:
        """Report one row.

        Args:
            kind: What is wrong with it.
            index: The row.
            detail: More on it (Chinese).
            other: The row that it is like or contradicts.
            score: How bad it is; what it means depends on the kind.
        """
        split, row = self._places[index]
        other_split, other_row = self._places[other] if other is not None else (None, None)
        return Finding(
            kind=kind.name,
            title=kind.title,
            split=split,
            row=row,
            text=shown(self.texts[index]),
            label=self.written(index),
            detail=detail,
            other_split=other_split,
            other_row=other_row,
            score=None if score is None else round(score, 4),
        )
