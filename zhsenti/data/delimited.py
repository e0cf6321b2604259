"""CSV and TSV as records that survive each other: an unclosed quote costs its own line, not the rows after it."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from zhsenti.data.encoding import MAX_LINE
from zhsenti.data.lines import Line

MAX_RECORD = MAX_LINE  # characters of one record that spans lines
MAX_RECORD_LINES = 10_000
_FEW_LINES = 64  # every record may span at least this many


class Record(NamedTuple):
    """One record.

    Attributes:
        line: The number of the line where it begins.
        cells: What stands in it.
        error: Why it cannot be read (Chinese), or "".
    """

    line: int
    cells: list[str]
    error: str


class _TooLong(Exception):
    pass


class _Feed:
    """The lines that csv.reader asks for, and a memory of those that belong to the record it is reading.

    Iterating raises _TooLong when a record spans more than it may.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = _at_carriage_returns(lines)
        self._returned: deque[Line] = deque()
        self.record: list[Line] = []
        self._length = 0
        self._most_lines = MAX_RECORD_LINES  # of one record

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.record.append(line)
        self._length += len(line.text)
        if len(self.record) > self._most_lines or (len(self.record) > 1 and self._length > MAX_RECORD):
            raise _TooLong
        return line.text

    def begin(self) -> None:
        """The next line begins a record."""
        self.record, self._length = [], 0

    def give_back(self) -> None:
        """Put all lines of the record but its first back, to be read again.

        After a record that was long and turned out not to be one, the next may only span half as many lines.
        """
        if len(self.record) > _FEW_LINES:
            self._most_lines = max(_FEW_LINES, self._most_lines // 2)
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

    A quote that is not closed runs on to the next quote, the end of the file or a limit. Then the line it began on is
    an error, and reading goes on from the line after it. A file full of such lines would cost their number squared:
    so whenever a record of more than 64 lines turns out to be none, the number of lines that a record may span is
    halved for the rest of the file, down to 64.
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
        """A record is one line: there is nothing to return."""
