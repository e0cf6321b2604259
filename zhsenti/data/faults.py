"""Rows that cannot be used: counted by kind and shown with their lines, in constant memory however many there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from zhsenti.core.errors import DataError

SHOWN = 8  # faults in an error
NUMBERED = 50  # rows of one kind in a report


def where(row: int, line: int | None) -> str:
    """How a person finds the row: its line where it is known, and its number among the data rows."""
    if line is None:
        return f"数据行 {row}"
    return f"第 {line} 行" if line == row else f"第 {line} 行（数据行 {row}）"


class Faults:
    """The faults of one file.

    Attributes:
        path: The file.
        kinds: How many rows have a fault of each kind; a reason's kind is what stands before its first “：”.
        first: The first faults in words, with where they are.
        places: For each kind, where its first rows are: their lines, or their numbers where there are no lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: Counter[str] = Counter()
        self.first: list[str] = []
        self.places: dict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return self.kinds.total()

    def add(self, row: int, line: int | None, reason: str) -> None:
        """Count a row that cannot be used.

        Args:
            row: Its number among the data rows.
            line: Its line in the file; None where there are no lines.
            reason: Why (Chinese).
        """
        kind = reason.partition("：")[0]
        self.kinds[kind] += 1
        if len(self.first) < SHOWN:
            self.first.append(f"{where(row, line)}{reason}")
        if len(self.places[kind]) < NUMBERED:
            self.places[kind].append(row if line is None else line)

    def by_kind(self) -> str:
        """Count the rows of each kind: "3 行列数不对，1 行的文本是空的"."""
        return "，".join(f"{count} 行{_linked(kind)}" for kind, count in self.kinds.most_common())

    def with_places(self, numbered: bool) -> str:
        """The same with where they are: lines of the file if ``numbered``, else numbers of data rows."""
        parts = []
        for kind, count in self.kinds.most_common():
            places = "、".join(map(str, self.places[kind])) + (" 等" if count > NUMBERED else "")
            parts.append(f"{count} 行{_linked(kind)}（{f'第 {places} 行' if numbered else f'数据行 {places}'}）")
        return "；".join(parts)

    def error(self, todo: str, expected: str = "", details: str = "") -> DataError:
        """One error that lists the first faults, and says how many there are in all."""
        listed = [*self.first, *([f"…… 共 {len(self)} 行"] if len(self) > len(self.first) else [])]
        found = "".join(f"\n    {line}" for line in [*listed, *([details] if details else [])])
        return DataError(
            f"{self.path} 有 {len(self)} 行用不了：{self.by_kind()}", expected=expected, found=found, todo=todo
        )


def _linked(kind: str) -> str:
    return f"的{kind}" if kind.startswith(("文本", "标签", "方面")) else kind
