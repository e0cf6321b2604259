"""Scored rows as files: the input's own columns, then the results, one flat schema in every format."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from zhsenti.core.files import replacing
from zhsenti.data.tables import csv_safe
from zhsenti.data.text import cell_text, readable

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")
EXCEL_ROWS = 1_048_575  # below the header
EXCEL_CHARACTERS = 32_767
BUFFERED_ROWS = 4096  # of a Parquet row group
BUFFERED_CHARACTERS = 8_000_000
# What happened to cells on their way, for the summary.
GUARDED = "个单元格以 = + - @ 开头，前面加了 '，免得表格软件当公式运行；要原样就用 .jsonl 或 .parquet"
FLATTENED = "个单元格里的制表符或换行换成了空格（TSV 放不下）；要原样就用 .csv、.jsonl 或 .parquet"
CUT = f"个单元格超过 Excel 的 {EXCEL_CHARACTERS:,} 字上限，截短了；要原样就用 .csv、.jsonl 或 .parquet"

# Takes names of the original cells, these cells, and the added cells in the order of ``added_names``.
Write = Callable[[Sequence[str], Sequence[object], Sequence[object]], None]
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?([eE][-+]?[0-9]+)?%?")


def added_names(labels: Sequence[str], original: Sequence[str]) -> list[str]:
    """Names of the columns with the results: label, confidence, score_…, truncated, error.

    Args:
        labels: The task's, in order.
        original: Names of the input's columns. What is among them already is called predicted_… instead.
    """
    return _apart(["label", "confidence", *(f"score_{label}" for label in labels), "truncated", "error"], original)


def _apart(wanted: Sequence[str], taken: Sequence[str]) -> list[str]:
    names: list[str] = []
    for plain in wanted:
        name, number = plain, 1
        while name in taken or name in names:
            name, number = f"predicted_{plain}" + (f"_{number}" if number > 1 else ""), number + 1
        names.append(name)
    return names


def unique_names(columns: Sequence[str]) -> list[str]:
    """Doubles become name_2, name_3 …, a column without a name becomes column_N: results need one name a column."""
    names: list[str] = []
    for number, column in enumerate(columns, start=1):
        name = plain = column or f"column_{number}"
        count = 2
        while name in names or (name != column and name in columns):
            name, count = f"{plain}_{count}", count + 1
        names.append(name)
    return names


@contextmanager
def row_writer(
    path: Path,
    original: Sequence[str],
    added: Sequence[str],
    changed: Counter[str],
    schema: pyarrow.Schema | None = None,
) -> Iterator[Write]:
    """A function that writes a row to ``path``, which appears whole when the block ends well.

    Args:
        path: The file; its ending says the format.
        original: Names of the input's columns.
        added: Names of the columns with the results.
        changed: Counts the cells that had to be changed, by what happened to them (Chinese).
        schema: Of the original columns, where they come from Parquet.

    Raises:
        OSError: The file cannot be written; nothing is left of it.
    """
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        if suffix == ".parquet":
            with _parquet(temporary, original, added, schema) as write:
                yield write
        elif suffix == ".xlsx":
            with _excel(temporary, original, added, changed) as write:
                yield write
        else:
            with _text(temporary, suffix, original, added, changed) as write:
                yield write
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())


def json_writer(stream: TextIO, added: Sequence[str]) -> Write:
    """A function that writes a row to ``stream`` as one object on a line, with the names of that row.

    The line is valid UTF-8 whatever the text: lone surrogates become "?".
    """
    ours = frozenset(added)

    def write(names: Sequence[str], cells: Sequence[object], results: Sequence[object]) -> None:
        # Of a pipe's objects only the first one's names were known when ``added`` was chosen.
        result_names = added if ours.isdisjoint(names) else _apart(added, names)
        values = {**dict(zip(names, cells, strict=True)), **dict(zip(result_names, results, strict=True))}
        line = readable(json.dumps(_plain(values), ensure_ascii=False))
        stream.write(line.translate(_LINE_ENDS) + "\n")

    return write


# JSON leaves these characters as they are, but some readers of lines take them for line ends.
_LINE_ENDS = {end: f"\\u{end:04x}" for end in (0x85, 0x2028, 0x2029)}


def _plain(value: object) -> object:
    """``value`` as JSON holds it: no NaN, dates and bytes as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cell(value: object) -> str | None:
    """``value`` as one cell of text: nested JSON as JSON, None as None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (dict, list, bool)):
        return json.dumps(_plain(value), ensure_ascii=False)
    return readable(cell_text(value))


@contextmanager
def _text(
    path: Path, suffix: str, original: Sequence[str], added: Sequence[str], changed: Counter[str]
) -> Iterator[Write]:
    encoding, newline = ("utf-8-sig", "") if suffix == ".csv" else ("utf-8", "\n")
    with path.open("w", encoding=encoding, newline=newline) as stream:
        if suffix == ".jsonl":
            yield json_writer(stream, added)
            return

        def guarded(value: object) -> object:
            if not isinstance(value, str) or _NUMBER.fullmatch(value):
                return "" if value is None else value
            safe = csv_safe(value)
            changed[GUARDED] += safe[:1] == "'" != value[:1]
            return safe

        def put(cells: Sequence[object]) -> None:
            line = [guarded(cell) for cell in cells]
            if suffix == ".csv":
                rows.writerow(line)
                return
            flat = [re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", " ", str(cell)) for cell in line]
            changed[FLATTENED] += sum(one != str(other) for one, other in zip(flat, line, strict=True))
            stream.write("\t".join(flat) + "\n")

        rows = csv.writer(stream)
        put([*original, *added])
        yield lambda names, cells, results: put([*map(_cell, cells), *map(_cell, results)])


@contextmanager
def _excel(path: Path, original: Sequence[str], added: Sequence[str], changed: Counter[str]) -> Iterator[Write]:
    """A workbook written row by row.

    Raises:
        OSError: It cannot be written, also where xlsxwriter has an error of its own for that.
    """
    import datetime

    import xlsxwriter
    from xlsxwriter.exceptions import XlsxWriterException

    parts = path.with_name(f"{path.name}-parts")  # a name that ``left_over`` knows
    parts.mkdir()
    options = {
        "constant_memory": True,  # rows go to a temporary file
        "tmpdir": str(parts),
        "use_zip64": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    book = xlsxwriter.Workbook(str(path), options)
    book.set_properties({"created": datetime.datetime(2000, 1, 1)})  # the same rows give the same bytes
    sheet = book.add_worksheet("结果")
    row = 0

    def put(cells: Sequence[object]) -> None:
        nonlocal row
        for column, cell in enumerate(cells):
            if isinstance(cell, bool):
                sheet.write_boolean(row, column, cell)
            elif isinstance(cell, (int, float)) and abs(cell) < 1e15:  # not so for NaN and infinity
                sheet.write_number(row, column, cell)
            elif (text := _cell(cell)) is not None:
                changed[CUT] += len(text) > EXCEL_CHARACTERS
                sheet.write_string(row, column, text[:EXCEL_CHARACTERS])
        row += 1

    try:
        put([*original, *added])
        yield lambda names, cells, results: put([*cells, *results])
    finally:
        try:
            book.close()
        except XlsxWriterException as error:
            raise _as_os_error(error, path) from None
        finally:
            shutil.rmtree(parts, ignore_errors=True)


def _as_os_error(error: Exception, path: Path) -> OSError:
    """The OSError behind an error of xlsxwriter.

    Also ends xlsxwriter's half-written zip archive, which its traceback keeps alive: at the interpreter's end it would
    try to write again, fail again, and say so on standard error.
    """
    cause = error.args[0] if error.args and isinstance(error.args[0], OSError) else OSError(None, str(error), str(path))
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        for one in (error, cause):
            traceback.clear_frames(one.__traceback__)
    finally:
        sys.unraisablehook = hook
    return cause


@contextmanager
def _parquet(
    path: Path, original: Sequence[str], added: Sequence[str], schema: pyarrow.Schema | None
) -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet

    fields = list(schema) if schema is not None else [pyarrow.field(name, pyarrow.string()) for name in original]
    kinds = [pyarrow.string(), *[pyarrow.float64()] * (len(added) - 3), pyarrow.bool_(), pyarrow.string()]
    whole = pyarrow.schema(
        [field.with_name(name) for field, name in zip(fields, original, strict=True)]
        + [pyarrow.field(name, kind) for name, kind in zip(added, kinds, strict=True)]
    )
    waiting: list[list[object]] = []
    characters = 0

    def flush(file: pyarrow.parquet.ParquetWriter) -> None:
        nonlocal waiting, characters
        columns = [
            _array(list(column), field.type) for column, field in zip(zip(*waiting, strict=True), whole, strict=True)
        ]
        file.write_table(pyarrow.Table.from_arrays(columns, schema=whole))
        waiting, characters = [], 0

    with pyarrow.parquet.ParquetWriter(path, whole, compression="zstd") as file:

        def write(names: Sequence[str], cells: Sequence[object], results: Sequence[object]) -> None:
            nonlocal characters
            values = list(cells) if schema is not None else [_cell(cell) for cell in cells]
            waiting.append([*values, *results])
            characters += sum(len(value) for value in values if isinstance(value, str))
            if len(waiting) >= BUFFERED_ROWS or characters >= BUFFERED_CHARACTERS:
                flush(file)

        yield write
        if waiting:
            flush(file)


def _array(values: list[object], kind: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow

    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        values = [None if value is None else _cell(value) for value in values]
    return pyarrow.array(values, kind)
