"""Tables of text from files as people have them: formats, encodings, column names. Nothing is dropped silently."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhsenti.errors import DataError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".xls")
TEXT_NAMES = [
    "text",
    "text_a",
    "review",
    "sentence",
    "content",
    "comment",
    "comments",
    "body",
    "文本",
    "评论",
    "内容",
    "评价",
    "正文",
    "句子",
    "评论内容",
    "评价内容",
    "text_content",
]
LABEL_NAMES = [
    "label",
    "labels",
    "sentiment",
    "polarity",
    "class",
    "target",
    "标签",
    "情感",
    "类别",
    "情感倾向",
    "情感标签",
    "极性",
]
ASPECT_NAMES = ["aspect", "target_aspect", "方面", "维度"]


@dataclass
class Table:
    """columns  in file order;  rows  as read, one list a data row;  notes  Chinese lines for the user."""

    path: Path
    columns: list[str]
    rows: list[list[Any]]
    notes: list[str] = field(default_factory=list)

    def column(self, given: str | None, names: Iterable[str], what: str, flag: str) -> int:
        """Index of the column called ``given``, or of the first common name. Raises DataError listing the columns."""
        folded = [str(name).strip().lower() for name in self.columns]
        doubled = sorted({name for name in folded if folded.count(name) > 1})
        wanted = [given.strip().lower()] if given else list(names)
        for name in wanted:
            if name in doubled:
                raise DataError(f"{self.path} 有两列都叫 {name}", todo="给它们不同的列名。")
            if name in folded:
                return folded.index(name)
        raise DataError(
            f"{self.path} 里找不到{what}列",
            expected=given or "、".join(list(names)[:8]) + " 等",
            found="、".join(map(str, self.columns))[:300] or "没有列",
            todo=f"用 {flag} 指出列名。",
        )


def read_table(path: Path) -> Table:
    """Read one file by its ending. Raises DataError that names the file, the line where known, and what to do."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"不认识的文件类型：{path}", expected="、".join(SUFFIXES), todo="另存为其中一种。")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} 是空文件", todo="检查导出是否完成。")
        if suffix == ".parquet":
            table = _parquet(path)
        elif suffix in (".xlsx", ".xls"):
            table = _excel(path)
        else:
            text, encoding = decode(path)
            readers = {".csv": _csv, ".tsv": _tsv, ".json": _json, ".jsonl": _jsonl}
            table = readers[suffix](path, text)
            table.notes.append(f"{path.name}：编码 {encoding}")
    except OSError as error:
        raise DataError(f"读不了 {path}", found=error.strerror or str(error), todo="检查路径和权限。") from error
    if not table.rows:
        raise DataError(f"{path} 只有表头，没有数据", found="、".join(map(str, table.columns))[:200])
    return table


def decode(path: Path) -> tuple[str, str]:
    """The file's text and the name of its encoding: BOM, strict UTF-8, UTF-16 by its zero bytes, GB18030, detector."""
    data = path.read_bytes()
    for bom, codec, name in (
        (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8（BOM）"),
        (b"\xff\xfe", "utf-16", "UTF-16"),
        (b"\xfe\xff", "utf-16", "UTF-16"),
    ):
        if data.startswith(bom):
            return _strict(path, data, codec, name)
    try:
        text = data.decode("utf-8")
        if "\0" not in text:
            return text, "UTF-8"
    except UnicodeDecodeError:
        pass
    for codec, zeros in (("utf-16-le", data[1:400:2]), ("utf-16-be", data[0:400:2])):
        # ASCII separators and digits have a zero half in UTF-16; no Chinese text in another encoding does.
        if zeros.count(0) >= 2 and len(data) % 2 == 0:
            return _strict(path, data, codec, "UTF-16（无 BOM）")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise DataError(f"{path} 第 {line} 行含 NUL 字节", found="像是二进制文件", todo="另存为 UTF-8 文本。")
    try:
        return data.decode("gb18030"), "GB18030"
    except UnicodeDecodeError as error:
        bad = error.start
    from charset_normalizer import from_bytes

    best = from_bytes(data[:200_000], cp_isolation=["big5", "utf_16", "euc_jp", "cp949"]).best()
    if best is not None:
        try:
            return data.decode(best.encoding), best.encoding
        except UnicodeDecodeError:
            pass
    line = data[:bad].count(b"\n") + 1
    raise DataError(
        f"{path} 的编码认不出来", found=f"第 {line} 行、第 {bad} 字节起不是 UTF-8 也不是 GB18030", todo="另存为 UTF-8。"
    )


def _strict(path: Path, data: bytes, codec: str, name: str) -> tuple[str, str]:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} 不是完整的 {name}", found=f"第 {line} 行、第 {error.start} 字节", todo="另存为 UTF-8。"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path} 第 {line} 行含 NUL 字节", todo="另存为 UTF-8 文本。")
    return text, name


def _csv(path: Path, text: str) -> Table:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    return _delimited(path, reader)


def _tsv(path: Path, text: str) -> Table:
    """Quotes are literal: reviews contain them, and tab-separated corpora do not escape them."""
    csv.field_size_limit(2**31 - 1)
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return _delimited(path, csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _delimited(path: Path, reader: Any) -> Table:
    columns: list[str] | None = None
    rows: list[list[Any]] = []
    start = 1
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                pass  # blank line
            elif columns is None:
                columns = [name.strip() for name in row]
            elif len(row) != len(columns):
                raise DataError(
                    f"{path} 第 {start} 行的列数不对",
                    expected=f"{len(columns)} 列：{'、'.join(columns)[:120]}",
                    found=f"{len(row)} 列",
                    todo="文本里有分隔符时要用引号括起来。",
                )
            else:
                rows.append(row)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path} 第 {start} 行起的引号没有闭合或写法不对", found=str(error), todo='字段里的引号要写成 ""。'
        ) from error
    return Table(path, columns or [], rows)


def _records(path: Path, records: Iterable[tuple[str, Any]]) -> Table:
    columns: dict[str, None] = {}
    objects = []
    for where, record in records:
        if not isinstance(record, dict):
            raise DataError(f"{path} {where}不是一个对象", expected='{"text": …, "label": …}', found=str(record)[:80])
        columns.update(dict.fromkeys(map(str, record)))
        objects.append(record)
    return Table(path, list(columns), [[record.get(name) for name in columns] for record in objects])


def _jsonl(path: Path, text: str) -> Table:
    def parse() -> Iterable[tuple[str, Any]]:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield f"第 {number} 行", json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path} 第 {number} 行不是 JSON", found=str(error)) from error

    return _records(path, parse())


def _json(path: Path, text: str) -> Table:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} 不是 JSON", found=str(error), todo="一行一个对象的文件请用 .jsonl。") from error
    if isinstance(values, dict):
        lists = [value for value in values.values() if isinstance(value, list)]
        values = lists[0] if len(lists) == 1 else values
    if not isinstance(values, list):
        raise DataError(f"{path} 的最外层要是数组", found=type(values).__name__)
    return _records(path, ((f"第 {i} 项", value) for i, value in enumerate(values, start=1)))


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} 不是完整的 Parquet 文件", found=str(error).splitlines()[0][:200]) from error
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    return Table(path, list(table.column_names), rows)


def _excel(path: Path) -> Table:
    import python_calamine

    try:
        with python_calamine.load_workbook(path) as book:
            names = book.sheet_names
            cells = book.get_sheet_by_index(0).to_python(skip_empty_area=True)
    except (python_calamine.CalamineError, ValueError) as error:
        raise DataError(f"{path} 不是完整的 Excel 文件", found=str(error).splitlines()[0][:200]) from error
    rows = [row for row in cells if any(str(cell).strip() for cell in row)]
    columns = [str(cell).strip() for cell in rows[0]] if rows else []
    notes = [f"{path.name}：只读第一张表“{names[0]}”，共 {len(names)} 张"] if len(names) > 1 else []
    return Table(path, columns, rows[1:], notes)
