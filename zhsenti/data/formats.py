"""Tables in text files: a path in, rows out, line by line where the format allows it.

Formats that need a library have modules of their own: ``excel``, ``parquet``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from zhsenti.core.errors import DataError
from zhsenti.data.delimited import CsvRecords, Record, TsvRecords
from zhsenti.data.encoding import Encoding
from zhsenti.data.lines import Line, read_lines, survey
from zhsenti.data.sniff import check_whole

MAX_COLUMNS = 10_000  # of a table, and different keys of JSON objects
MAX_DEPTH = 64  # of JSON
TOO_DEEP = "不是 JSON：嵌套太深"


class JsonObject(dict[str, Any]):
    """A key that an object lacks is an empty cell."""

    def __missing__(self, key: str) -> None:
        return None


class Row(NamedTuple):
    """One data row, readable or not.

    Attributes:
        number: From 1 on; the header and blank lines are not counted.
        line: Its first line in the file, from 1 on; None where there are no lines.
        values: The cells, by what ``Source.column`` returns: a list, or a ``JsonObject``.
        error: Why it cannot be read (Chinese), or "".
    """

    number: int
    line: int | None
    values: Any
    error: str = ""


class Merged(NamedTuple):
    """Merged cells of a sheet: rows as in ``Row.line``, columns by their index, and the name Excel gives the area."""

    top: int
    bottom: int
    left: int
    right: int
    name: str

    def holds(self, line: int | None, column: int | str) -> bool:
        """Whether a cell is in the area, by its ``Row.line`` and the index of its column."""
        in_rows = line is not None and self.top <= line <= self.bottom
        return in_rows and isinstance(column, int) and self.left <= column <= self.right


@dataclass
class Content:
    """What a format's reader gives.

    Attributes:
        columns: In the order of the file; of JSON lines those of the first readable object.
        rows: Read on as they are asked for.
        most: The file has at most so many rows.
        notes: Chinese lines for the user.
        share: How much of the file has been read, from 0 to 1.
        keys: Reads the file once more for all columns, where ``columns`` may not be all.
        merged: Excel's merged cells.
        exact: The file has exactly ``most`` rows; else how many is not known before its end.
    """

    columns: list[str]
    rows: Iterator[Row]
    most: int
    notes: list[str] = field(default_factory=list)
    share: Callable[[], float] = lambda: 0.0
    keys: Callable[[], list[str]] | None = None
    merged: list[Merged] = field(default_factory=list)
    exact: bool = False


# ── text, line by line ────────────────────────────────────────────────────────────────────────────────────────────


class _TextFile:
    """A file to be read by lines, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        self.path, self.survey = path, survey(path)
        self.note = _encoding_note(path, self.survey.encoding)
        self.size = path.stat().st_size
        self.stream: IO[bytes] | None = None

    def lines(self) -> Iterator[Line]:
        """Every line, from the beginning."""
        with self.path.open("rb") as stream:
            self.stream = stream
            yield from read_lines(stream, self.survey.encoding)

    def share(self) -> float:
        """How much of the file ``lines`` has read, from 0 to 1."""
        stream = self.stream
        return 1.0 if stream is None or stream.closed else stream.tell() / self.size


def _encoding_note(path: Path, encoding: Encoding) -> str:
    return f"{path.name}：编码 {encoding.name}"


def read_csv(path: Path) -> Content:
    """Rows of comma-separated values.

    Raises:
        DataError: As ``delimited``.
        OSError: The file cannot be read.
    """
    return _delimited(path, "csv")


def read_tsv(path: Path) -> Content:
    """Rows of tab-separated values.

    Raises:
        DataError: As ``delimited``.
        OSError: The file cannot be read.
    """
    return _delimited(path, "tsv")


def _delimited(path: Path, kind: str) -> Content:
    file = _TextFile(path)
    content = delimited(path, file.lines(), kind, file.survey.lines)
    content.notes, content.share = [file.note], file.share
    return content


def delimited(path: Path, lines: Iterator[Line], kind: str, most: int) -> Content:
    """Read lines as a table whose first row names the columns.

    Args:
        path: For messages.
        lines: The lines, blank ones included.
        kind: "csv" or "tsv".
        most: There are at most so many lines, the header's among them.

    Returns:
        The table; a row whose cells are fewer or more than the columns has an error.

    Raises:
        DataError: The header cannot be read.
    """
    source = CsvRecords(lines) if kind == "csv" else TsvRecords(lines)
    records = (record for record in source if record.error or not _is_blank_line(record))
    header = next(records, None)
    if header and header.error:
        raise DataError(f"{path} 的表头（第 {header.line} 行）读不了", found=header.error, todo="另存为 UTF-8 文本。")
    columns = [name.strip() for name in header.cells] if header else []

    def rows() -> Iterator[Row]:
        for number, record in enumerate(records, start=1):
            error = record.error
            if not error and len(record.cells) != len(columns):
                found = f"{len(record.cells)} 列，表头 {len(columns)} 列；文本里有分隔符或换行时要用引号括起来"
                error = f"列数不对：{found}"
                source.give_back()  # rows behind an unclosed quote, if that is what it was
            yield Row(number, record.line, [] if error else record.cells, error)

    return Content(columns, rows(), most - 1)


def _is_blank_line(record: Record) -> bool:
    return not record.cells or (len(record.cells) == 1 and not record.cells[0].strip())


def read_jsonl(path: Path) -> Content:
    """Rows of a file with one JSON object a line.

    Raises:
        OSError: The file cannot be read.
    """
    file = _TextFile(path)

    def keys() -> list[str]:
        return union_of_keys(path, (row.values for row in json_lines(_TextFile(path).lines()) if not row.error))

    rows = json_lines(file.lines())
    head: list[Row] = []
    for row in rows:  # up to the first readable object
        head.append(row)
        if not row.error or len(head) == 1000:
            break
    columns = list(head[-1].values) if head and not head[-1].error else []
    return Content(columns, chain(head, rows), file.survey.lines, [file.note], file.share, keys)


def json_lines(lines: Iterator[Line]) -> Iterator[Row]:
    """Read every line that is not blank as a JSON object."""
    number = 0
    for line in lines:
        if line.error or line.text.strip():
            number += 1
            value, error = (None, line.error) if line.error else _parse(line.text)
            yield _json_row(number, line.number, value, error)


def _json_row(number: int, line: int | None, value: Any, error: str) -> Row:
    if not error and not isinstance(value, dict):
        error = '不是一个对象：应为 {"text": …}'
        error += "；整个文件是一个数组就改名为 .json" if line and str(value).startswith("[") else ""
    if not error and _nested(value, MAX_DEPTH):
        error = TOO_DEEP
    return Row(number, line, JsonObject() if error else JsonObject(value), error)


def _nested(value: Any, depth: int) -> bool:
    """Are there more than ``depth`` lists or objects in one another? What writes them down again recurses, too."""
    items = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, (dict, list)) and (depth == 0 or _nested(item, depth - 1)) for item in items)


def _parse(text: str) -> tuple[Any, str]:
    try:
        return json.loads(text), ""
    except RecursionError:
        return None, TOO_DEEP
    except json.JSONDecodeError as error:
        line = f"第 {error.lineno} 行" if error.lineno > 1 else ""
        array = "；整个文件是一个数组就改名为 .json" if text.startswith("[") else ""
        return None, f"不是 JSON：{line}第 {error.colno} 个字符附近写法不对{array}"
    except ValueError:
        return None, "不是 JSON：有一个数太长"


def union_of_keys(path: Path, objects: Iterable[dict[str, Any]]) -> list[str]:
    """All keys of JSON objects in the order they appear.

    Raises:
        DataError: There are more than ``MAX_COLUMNS``; ``path`` is named in the message.
    """
    keys: dict[str, None] = {}
    for item in objects:
        if item.keys() - keys.keys():
            keys.update(dict.fromkeys(item))
            if len(keys) > MAX_COLUMNS:
                raise DataError(f"{path} 里的键太多", expected=f"不超过 {MAX_COLUMNS} 种", todo="键要是固定的列名。")
    return list(keys)


# ── read whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(path: Path) -> Content:
    """Rows of a file that is one JSON array of objects, or an object with one such array in it.

    Raises:
        DataError: It is something else, is not JSON, or is too large to be read whole.
        OSError: The file cannot be read.
    """
    check_whole(path, ".json")
    encoding = survey(path).encoding
    value, error = _parse(_whole_text(path, encoding))
    if error:
        raise DataError(
            f"{path} {error.partition('：')[0]}", found=error.partition("：")[2], todo="一行一个对象的文件请用 .jsonl。"
        )
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise DataError(f"{path} 的最外层要是数组", found=type(value).__name__)
    rows = [_json_row(number, None, item, "") for number, item in enumerate(value, start=1)]
    columns = union_of_keys(path, (row.values for row in rows))
    return Content(columns, iter(rows), len(rows), [_encoding_note(path, encoding)], keys=lambda: columns, exact=True)


def _whole_text(path: Path, encoding: Encoding) -> str:
    with path.open("rb") as stream:
        lines = []
        for line in read_lines(stream, encoding):
            if line.error and not line.error.startswith("一行太长"):
                raise DataError(f"{path} 的编码不对", found=line.error, todo="另存为 UTF-8。")
            lines.append(line)
    if any(line.error for line in lines):  # an array on one line may be long
        data = path.read_bytes()[encoding.bom :]
        try:
            return data.decode(encoding.codec)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} 的编码不对",
                found=f"第 {encoding.bom + error.start} 字节起不是 {encoding.name}",
                todo="另存为 UTF-8。",
            ) from None
    return "".join(line.text for line in lines)
