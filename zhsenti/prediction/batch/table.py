"""The inputs of a batch job as one table: its columns, which of them are asked about, and each row's cells."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from zhsenti.core.console import say
from zhsenti.core.errors import DataError
from zhsenti.data.formats import Row
from zhsenti.data.read import ASPECT, JSON, TEXT, Source, open_rows
from zhsenti.data.text import whole
from zhsenti.prediction.batch.inputs import column_names, common_columns, find_inputs
from zhsenti.prediction.batch.outputs import added_names, unique_names
from zhsenti.prediction.batch.pipe import open_stdin, standard_input
from zhsenti.prediction.batch.windows import Columns, find_columns
from zhsenti.prediction.config import PredictConfig

if TYPE_CHECKING:
    import pyarrow

    from zhsenti.task import SentimentTask

# From a row to names and cells: of all columns, or (True) of the keys that a JSON object has itself.
Cells = Callable[[Row, bool], tuple[Sequence[str], list[object]]]
EXCEL = (".xls", ".xlsx")


class Table:
    """The inputs as one table. Every input is opened once here; rows come from ``sources``.

    Output in a file: start with the first object's keys of a .jsonl file, and begin again (``lacks``,
    ``read_every_key``) if a later row has more. Output on standard output, or inputs of mixed file types: read all keys
    first.

    Attributes:
        files: The inputs; none for standard input.
        labels: The task's, in order.
        text: Name of the text column.
        aspect: Name of the aspect column, None where there is none.
        constant: The aspect of all rows.
        names: The columns as the inputs have them.
        original: The same, each name once.
        added: Names of the columns with the results.
        most: The inputs have at most so many rows.
        exact: They have exactly that many.
        left_out: How many rows of a pipe have which key that the first object had not, where there is no place for it.
        began: When the job began, in seconds of ``time.monotonic``.
    """

    def __init__(self, config: PredictConfig, task: SentimentTask) -> None:
        """Open the inputs, find the columns, and say what was found.

        Args:
            config: Names the inputs and their columns.
            task: Says the labels, and whether there are aspects.

        Raises:
            DataError: An input cannot be read, or they do not fit together; nothing is computed then.
        """
        assert config.input is not None
        self.labels, self.constant, self.began = task.labels, config.aspect, time.monotonic()
        self.files, notes = ([], []) if config.input == "-" else find_inputs(config.input)
        self._stamps: list[tuple[int, int]] = []
        if self.files:
            first = self._open(self.files[0])
            notes += first.content.notes
        else:
            first, note = open_stdin(standard_input(), config.input_format, config.text_column)
            notes.append(note)
        self._first: Source | None = first
        self.text = first.name(first.column(config.text_column, TEXT))
        self.aspect: str | None = None
        if task.has_aspect and config.aspect is None:
            role = ASPECT._replace(flag="--aspect_column 或 --aspect")
            self.aspect = first.name(first.column(config.aspect_column, role))
        every_key = config.output in (None, "-") or not all(path.suffix.lower() in JSON for path in self.files)
        columns = [column_names(first, every_key)]
        self._most, self.exact = [first.content.most], first.content.exact
        for path in self.files[1:]:  # none is kept: each may hold a file open, or a whole sheet
            source = self._open(path)
            columns.append(column_names(source, every_key))
            self._most.append(source.content.most)
            self.exact &= source.content.exact
            notes += source.content.notes
        self.most = sum(self._most)
        self.left_out = Counter[str]()
        self._set_names(common_columns(self.files or [first.path], columns))
        for note in [*notes, f"文本列 {self.text}"]:
            say(note, indent=1)
        self._say_names()

    def _open(self, path: Path) -> Source:
        """Open an input and note what it is now; from here on it must not change."""
        try:
            stamps = [_stamp(path)]
        except (OSError, ValueError):
            stamps = []
        source = open_rows(path)  # says what is wrong with a path that cannot be asked
        self._stamps += stamps
        return source

    def _set_names(self, names: list[str]) -> None:
        self.names = names
        self.original = unique_names(names)
        self.added = added_names(self.labels, self.original)
        self._known, self._ours = frozenset(names), frozenset(self.added)

    def _say_names(self) -> None:
        if self.added[0] != "label" or any(name.startswith("predicted_") for name in self.added):
            there = "、".join(name for name in self.added if name.startswith("predicted_"))
            say(f"输入里已有同名的列，结果写在 {there}", indent=1)

    def sources(self) -> Iterator[Source]:
        """All inputs from their beginnings, one open at a time; standard input only once.

        Raises:
            DataError: An input cannot be read any more.
        """
        first, self._first = self._first, None
        if first is not None:
            yield first
        for path in self.files if first is None else self.files[1:]:
            yield open_rows(path)

    def columns(self, source: Source) -> Columns:
        """Where rows of ``source`` hold what is asked.

        Raises:
            DataError: It lacks a column.
        """
        return find_columns(source, self.text, self.aspect, self.constant)

    def lacks(self, rows: Sequence[Row], *, tabular: bool) -> bool:
        """Whether one of ``rows`` has a key that changes the names of columns.

        Args:
            rows: Of an input.
            tabular: Whether a result is a table, with a column for every key there is. In JSON lines each row has its
                own keys: there only those matter whose names the results would have.
        """
        for row in rows:
            if isinstance(row.values, dict) and not row.values.keys() <= self._known:
                new = row.values.keys() - self._known
                if self.files and (tabular or not self._ours.isdisjoint(new)):
                    return True
        return False

    def read_every_key(self) -> None:
        """Go through all .jsonl inputs for their keys.

        Raises:
            DataError: There are absurdly many.
        """
        before = self.added
        self._set_names(common_columns(self.files, [column_names(open_rows(path), True) for path in self.files]))
        if self.added != before:
            self._say_names()

    def cells(self, source: Source) -> Cells:
        """A function from a row of ``source`` to names and cells.

        ``left_out`` counts a pipe's keys that the first object had not, where all columns are asked for.
        """
        order = [source.content.columns.index(name) for name in self.names] if not _is_json(source) else []
        if len(set(order)) < len(order):
            order = list(range(len(order)))  # doubles among the names: every file has them in the same order

        def of(row: Row, own_keys: bool) -> tuple[Sequence[str], list[object]]:
            if isinstance(row.values, dict):
                if own_keys:
                    return list(row.values), list(row.values.values())
                if not row.values.keys() <= self._known:
                    self.left_out.update(row.values.keys() - self._known)
                return self.original, [row.values[name] for name in self.names]
            if row.error:
                return self.original, [None] * len(self.names)
            return self.original, [neat(row.values[index]) for index in order]

        neat = whole if source.path.suffix.lower() in EXCEL else lambda value: value
        return of

    def schema(self) -> pyarrow.Schema | None:
        """Arrow's, where all inputs are Parquet and agree."""
        if not self.files or not all(path.suffix.lower() == ".parquet" for path in self.files):
            return None
        import pyarrow.parquet

        schemas = [pyarrow.parquet.read_schema(path) for path in self.files]
        return schemas[0].remove_metadata() if all(one.equals(schemas[0]) for one in schemas) else None

    def count(self) -> int:
        """How many rows there are, by reading all inputs once more where ``most`` is not ``exact``."""
        return self.most if self.exact else sum(1 for path in self.files for _ in open_rows(path).rows)

    def share(self, file: int, source: Source, rows: int) -> float:
        """How much of all inputs (0 to 1, by bytes) has been read.

        Args:
            file: Number of the input being read, from 0.
            source: That input.
            rows: How many of its rows have been read.
        """
        sizes = [size for size, _ in self._stamps]
        inside = rows / max(self._most[file], 1) if source.content.exact else source.content.share()
        return (sum(sizes[:file]) + sizes[file] * inside) / max(sum(sizes), 1)

    def check_unchanged(self) -> None:
        """Compare the inputs with what they were when they were opened.

        Raises:
            DataError: One has changed: scores and rows may no longer belong together.
        """
        try:
            now = list(map(_stamp, self.files))
        except OSError:
            now = []
        changed = [path for path, *both in zip_longest(self.files, self._stamps, now) if both[0] != both[1]]
        if changed:
            raise DataError(
                f"{changed[0]} 在预测时变了",
                found="算好的分数不再与它的行对应，没有写结果",
                todo="别在预测时改输入；同一条命令会说怎样重新开始。",
            )


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change."""
    known = os.stat(path)
    return known.st_size, known.st_mtime_ns


def _is_json(source: Source) -> bool:
    return source.path.suffix.lower() in JSON
