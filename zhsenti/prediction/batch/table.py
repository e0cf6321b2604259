"""The inputs of a batch job as one table: its columns, which of them are asked about, and each row's cells."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import DataError
from zhsenti.data.formats import Row
from zhsenti.data.read import ASPECT_NAMES, TEXT_NAMES, Source, open_rows
from zhsenti.prediction.batch.inputs import columns_of, find_inputs, open_stdin, standard_input
from zhsenti.prediction.batch.outputs import added_names, unique_names
from zhsenti.prediction.batch.records import Columns
from zhsenti.prediction.config import InferenceConfig

if TYPE_CHECKING:
    from zhsenti.task import SentimentTask

Cells = Callable[[Row, bool], tuple[list[str], list[Any]]]


class Table:
    """The inputs as one table: their files (none for standard input), columns, and which of them are asked about."""

    def __init__(self, config: InferenceConfig, task: SentimentTask) -> None:
        assert config.input is not None
        self.labels, self.constant, self.began = task.labels, config.aspect, time.monotonic()
        self.files, notes = ([], []) if config.input == "-" else find_inputs(config.input)
        if self.files:
            first = open_rows(self.files[0])
            notes += first.content.notes
        else:
            first, note = open_stdin(standard_input(), config.input_format, config.text_column)
            self._piped = first
            notes.append(note)
        self.text = first.name(first.column(config.text_column, TEXT_NAMES, "文本", "--text_column"))
        self.aspect: str | None = None
        if task.has_aspect and config.aspect is None:
            about = first.column(config.aspect_column, ASPECT_NAMES, "方面", "--aspect_column 或 --aspect")
            self.aspect = first.name(about)
        self.names = columns_of(chain([first], self._noted(self.files[1:], notes)))
        self.stamps, self.left_out = self._stamps(), Counter[str]()
        self.original = unique_names(self.names)
        self.added = added_names(self.labels, self.original)
        for note in [*notes, f"文本列 {self.text}"]:
            print(f"  {note}", file=sys.stderr)
        if self.added[0] != "label" or any(name.startswith("predicted_") for name in self.added):
            there = "、".join(name for name in self.added if name.startswith("predicted_"))
            print(f"  输入里已有同名的列，结果写在 {there}", file=sys.stderr)

    def _noted(self, files: list[Path], notes: list[str]) -> Iterator[Source]:
        for path in files:
            source = open_rows(path)
            notes += source.content.notes
            yield source

    def sources(self) -> Iterator[Source]:
        """All inputs from their beginnings, one open at a time; standard input only once."""
        if not self.files:
            yield self._piped
        for path in self.files:
            yield open_rows(path)

    def _stamps(self) -> list[tuple[int, int]]:
        return [(known.st_size, known.st_mtime_ns) for known in map(os.stat, self.files)]

    def check_unchanged(self) -> None:
        """Raises DataError where scores and rows may no longer belong together."""
        try:
            now = self._stamps()
        except OSError:
            now = []
        changed = [path for path, *both in zip_longest(self.files, self.stamps, now) if both[0] != both[1]]
        if changed:
            raise DataError(
                f"{changed[0]} 在预测时变了",
                found="算好的分数不再与它的行对应，没有写结果",
                todo="别在预测时改输入；同一条命令会说怎样重新开始。",
            )

    def keys(self, source: Source) -> Columns:
        text = source.column(self.text, TEXT_NAMES, "文本", "--text_column")
        aspect = self.aspect and source.column(self.aspect, ASPECT_NAMES, "方面", "--aspect_column")
        return Columns(text, aspect, self.constant)

    def cells(self, source: Source) -> Cells:
        """A function from a row to names and cells: of all columns, or (own) of those that a JSON object has.

        ``left_out`` counts a pipe's keys that the first object had not, where all columns are asked for.
        """
        order = [source.content.columns.index(name) for name in self.names] if not _is_json(source) else []
        if len(set(order)) < len(order):
            order = list(range(len(order)))  # doubles among the names: every file has them in the same order
        known = frozenset(self.names)

        def of(row: Row, own: bool) -> tuple[list[str], list[Any]]:
            if isinstance(row.values, dict):
                if own:
                    return list(row.values), list(row.values.values())
                if not row.values.keys() <= known:
                    self.left_out.update(row.values.keys() - known)
                return self.original, [row.values[name] for name in self.names]
            if row.error:
                return self.original, [None] * len(self.names)
            return self.original, [neat(row.values[index]) for index in order]

        neat = _as_seen if source.path.suffix.lower() in (".xls", ".xlsx") else lambda value: value
        return of

    def schema(self) -> Any:
        """Arrow's, where all inputs are Parquet and agree."""
        if not self.files or not all(path.suffix.lower() == ".parquet" for path in self.files):
            return None
        import pyarrow.parquet

        schemas = [pyarrow.parquet.read_schema(path) for path in self.files]
        return schemas[0].remove_metadata() if all(one.equals(schemas[0]) for one in schemas) else None


def _as_seen(value: Any) -> Any:
    """Excel holds every number as a float: 12.0 is 12 to whoever typed it."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return int(value) if whole else value


def _is_json(source: Source) -> bool:
    return source.path.suffix.lower() in (".json", ".jsonl")
