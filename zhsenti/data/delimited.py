"""CSV and TSV as records that survive each other: an unclosed quote costs its own line, not the rows after it."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from zhsenti.data.lines import MAX_LINE, Line

MAX_RECORD = MAX_LINE  # characters of one record that spans lines
MAX_RECORD_LINES = 10_000
_FEW_LINES = 64


class Record(NamedTuple):
    """``line``  where it begins;  ``error``  why it cannot be read (Chinese), or ""."""

    line: int
    cells: list[str]
    error: str


class _TooLong(Exception):
    pass


class _Feed:
    """Lines for csv.reader, with those of the record it is in. Raises _TooLong where that goes too far."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = _at_carriage_returns(lines)
        self._returned: deque[Line] = deque()
        self.record: list[Line] = []
        self._length = 0
        self._reach = MAX_RECORD_LINES

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.record.append(line)
        self._length += len(line.text)
        if len(self.record) > self._reach or (len(self.record) > 1 and self._length > MAX_RECORD):
            raise _TooLong
        return line.text

    def begin(self) -> None:
        self.record, self._length = [], 0

    def give_back(self) -> None:
        """All lines of the record but its first go back. A long way that led nowhere is not gone so far again."""
        if len(self.record) > _FEW_LINES:
            self._reach = max(_FEW_LINES, self._reach // 2)
        self._returned.extendleft(reversed(self.record[1:]))
        del self.record[1:]


def _at_carriage_returns(lines: Iterator[Line]) -> Iterator[Line]:
    """A lone carriage return ends a line too, as on old Macs."""
    for line in lines:
        text = line.text
        if "\r" in text and text.index("\r") < len(text) - 2:
            for part in io.StringIO(text, newline=""):
                yield Line(line.number, part, line.error)
        else:
            yield line


class CsvRecords:
    """Records of a CSV file. ``give_back`` returns all lines of the last record but its first to the input.

    A quote that is not closed runs on to the next quote, the end of the file or a limit: then the line it began on is
    an error, and reading goes on from the line after that. So that such lines cannot cost their number squared, every
    long way that led nowhere halves how many lines a record may span from there on, down to 64.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        csv.field_size_limit(2**31 - 1)
        self._feed = _Feed(lines)
        self._reader = csv.reader(self._feed, strict=True)
        self.give_back = self._feed.give_back

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        self._feed.begin()
        try:
            cells = next(self._reader)
        except (csv.Error, _TooLong):
            first = self._feed.record[0]
            self.give_back()
            return Record(first.number, [], first.error or "引号没有闭合或写法不对：字段里的引号要写成两个")
        lines = self._feed.record
        return Record(lines[0].number, cells, next((line.error for line in lines if line.error), ""))


class TsvRecords:
    """One line, one record. Quotes are literal: reviews contain them, and tab-separated corpora do not escape them."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Record]:
        for line in self._lines:
            yield Record(line.number, line.text.rstrip("\n").rstrip("\r").split("\t"), line.error)

    def give_back(self) -> None:
        pass
