"""One file format each: a path in, rows out, one at a time where the format allows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from zhsenti.core.errors import DataError
from zhsenti.data.delimited import CsvRecords, TsvRecords
from zhsenti.data.lines import Encoding, Line, find_encoding, read_lines
from zhsenti.data.sniff import check_whole

MAX_COLUMNS = 10_000  # different keys of JSON objects
MAX_DEPTH = 64  # of JSON
TOO_DEEP = "不是 JSON：嵌套太深"


class Row(NamedTuple):
    """One data row, readable or not.

    number  1-based, the header and blank lines not counted;  line  1-based in the file, None where there are no lines
    values  by what ``Source.column`` returns;  error  why it cannot be read (Chinese), or "".
    """

    number: int
    line: int | None
    values: Any
    error: str = ""


class JsonObject(dict):
    """A key that an object lacks is an empty cell."""

    def __missing__(self, key: str) -> None:
        return None


@dataclass
class Content:
    """What a format's reader gives.

    columns  in file order (JSON lines: of the first readable object);  rows  read on as they are asked for
    most     the file has at most so many rows;  share  of the file read so far, 0 to 1
    keys     all columns, by reading the file once more, where ``columns`` may not be all
    merged   Excel's merged cells: first row, last row, first column, last column (rows as ``Row.line``), their name
    """

    columns: list[str]
    rows: Iterator[Row]
    most: int
    notes: list[str] = field(default_factory=list)
    share: Callable[[], float] = lambda: 0.0
    keys: Callable[[], list[str]] | None = None
    merged: list[tuple[int, int, int, int, str]] = field(default_factory=list)


# ── text, line by line ────────────────────────────────────────────────────────────────────────────────────────────


class _TextFile:
    """The open file, its encoding, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        self.path, self.encoding = path, find_encoding(path)
        self.note = f"{path.name}：编码 {self.encoding.name}"
        self.size = path.stat().st_size
        self.stream: IO[bytes] | None = None

    def lines(self) -> Iterator[Line]:
        with self.path.open("rb") as stream:
            self.stream = stream
            yield from read_lines(stream, self.encoding)

    def share(self) -> float:
        stream = self.stream
        return 1.0 if stream is None or stream.closed else stream.tell() / self.size


def read_csv(path: Path) -> Content:
    return _delimited(path, "csv")


def read_tsv(path: Path) -> Content:
    return _delimited(path, "tsv")


def _delimited(path: Path, kind: str) -> Content:
    file = _TextFile(path)
    content = delimited(path, file.lines(), kind, file.encoding.lines)
    content.notes, content.share = [file.note], file.share
    return content


def delimited(path: Path, lines: Iterator[Line], kind: str, most: int) -> Content:
    """Rows of a table's ``lines``; kind  csv or tsv;  path  for messages;  most  lines at most. Raises DataError."""
    source = CsvRecords(lines) if kind == "csv" else TsvRecords(lines)
    records = (r for r in source if r.error or not (not r.cells or (len(r.cells) == 1 and not r.cells[0].strip())))
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

    return Content(columns, rows(), most)


def read_jsonl(path: Path) -> Content:
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
    return Content(columns, _chain(head, rows), file.encoding.lines, [file.note], file.share, keys)


def _chain(head: list[Row], rows: Iterator[Row]) -> Iterator[Row]:
    yield from head
    yield from rows


def json_lines(lines: Iterator[Line]) -> Iterator[Row]:
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


def union_of_keys(path: Path, objects: Iterable[dict]) -> list[str]:
    """In the order they appear. Raises DataError when there are absurdly many."""
    keys: dict[str, None] = {}
    for item in objects:
        if item.keys() - keys.keys():
            keys.update(dict.fromkeys(item))
            if len(keys) > MAX_COLUMNS:
                raise DataError(f"{path} 里的键太多", expected=f"不超过 {MAX_COLUMNS} 种", todo="键要是固定的列名。")
    return list(keys)


# ── read whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(path: Path) -> Content:
    check_whole(path, ".json")
    encoding = find_encoding(path)
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
    return Content(columns, iter(rows), len(rows), [f"{path.name}：编码 {encoding.name}"], keys=lambda: columns)


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


def read_excel(path: Path) -> Content:
    import python_calamine

    check_whole(path, "Excel 文件")
    try:
        with path.open("rb") as stream, python_calamine.load_workbook(stream) as book:
            names = book.sheet_names
            sheet = book.get_sheet_by_index(0)
            cells = sheet.to_python(skip_empty_area=True)
            top, left = sheet.start or (0, 0)
            merged = [_merged(area, left) for area in sheet.merged_cell_ranges or []]
    except (python_calamine.CalamineError, ValueError, IndexError) as error:
        found = str(error).partition("\n")[0][:200]
        todo = "内容若是文本就改名为 .csv。" if "detect" in found else "在 Excel 里打开并另存为 .xlsx。"
        raise DataError(f"{path} 不是完整的 Excel 文件", found=found, todo=todo) from error
    filled = [(top + i + 1, row) for i, row in enumerate(cells) if any(str(cell).strip() for cell in row)]
    columns = [str(cell).strip() for cell in filled[0][1]] if filled else []
    rows = [Row(number, line, row) for number, (line, row) in enumerate(filled[1:], start=1)]
    notes = [f"{path.name}：只读第一张表“{names[0]}”，共 {len(names)} 张"] if len(names) > 1 else []
    return Content(columns, iter(rows), len(rows), notes, merged=merged)


def _merged(area: tuple[tuple[int, int], tuple[int, int]], left: int) -> tuple[int, int, int, int, str]:
    (top, first), (bottom, last) = area
    return top + 1, bottom + 1, first - left, last - left, f"{_cell_name(top, first)}:{_cell_name(bottom, last)}"


def _cell_name(row: int, column: int) -> str:
    letters, column = "", column + 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return f"{letters}{row + 1}"


# ── Parquet, batch by batch ───────────────────────────────────────────────────────────────────────────────────────


def read_parquet(path: Path) -> Content:
    import pyarrow
    import pyarrow.parquet

    def broken(error: Exception) -> DataError:
        return DataError(f"{path} 不是完整的 Parquet 文件", found=str(error).partition("\n")[0][:200])

    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns, total = list(file.schema_arrow.names), file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise broken(error) from error
    done = 0

    def rows() -> Iterator[Row]:
        nonlocal done
        try:
            with file:
                for batch in file.iter_batches(batch_size=1024):
                    for cells in zip(*map(_cells, batch.columns), strict=True):
                        done += 1
                        yield Row(done, None, cells)
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(error) from error

    return Content(columns, rows(), total, share=lambda: done / max(total, 1))


def _cells(column: Any) -> list[Any]:
    """A column of Parquet as Python values; text that is no UTF-8 stays bytes, which ``Source.cell`` names."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_bytes_or_text(cell) for cell in column]


def _bytes_or_text(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.as_buffer().to_pybytes()
