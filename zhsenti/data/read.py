"""Tables of text from files as people have them: formats, encodings, column names. Nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from zhsenti.core.errors import DataError
from zhsenti.data.excel import read_excel
from zhsenti.data.faults import Faults
from zhsenti.data.formats import MAX_COLUMNS, Content, Row, read_csv, read_json, read_jsonl, read_tsv, union_of_keys
from zhsenti.data.parquet import read_parquet
from zhsenti.data.sniff import check_content, list_folder, unreadable
from zhsenti.data.text import cell_text, text_fault

READERS: dict[str, Callable[[Path], Content]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".xlsx": read_excel,
    ".xls": read_excel,
}
SUFFIXES = tuple(READERS)
JSON = (".json", ".jsonl")  # their rows are objects, with keys in place of columns
MAX_HELD_ROWS = 5_000_000  # of those who keep all rows: training, audit
Key = int | str  # of a cell in ``Row.values``: a column's index, or a JSON object's key


class Role(NamedTuple):
    """What a column is for.

    Attributes:
        title: What it holds (Chinese), for messages.
        flag: The flag that names the column.
        names: What such a column is commonly called, lower-cased; the first name that a file has is taken.
    """

    title: str
    flag: str
    names: tuple[str, ...] = ()


# fmt: off
TEXT = Role("文本", "--text_column", (
    "text", "text_a", "review", "sentence", "content", "comment", "comments", "body",
    "文本", "评论", "内容", "评价", "正文", "句子", "评论内容", "评价内容", "text_content",
))
LABEL = Role("标签", "--label_column", (
    "label", "labels", "sentiment", "polarity", "class", "target",
    "标签", "情感", "类别", "情感倾向", "情感标签", "极性",
))
ASPECT = Role("方面", "--aspect_column", ("aspect", "target_aspect", "方面", "维度"))
SLICE = Role("分组", "--slice_columns")
# fmt: on


def find_column(path: Path, columns: Sequence[str], given: str | None, role: Role) -> int:
    """Find a column by its name, whatever its case.

    Args:
        path: The file, for the message.
        columns: The columns' names.
        given: The name that the user gave, if any.
        role: What the column is for.

    Returns:
        The column's index.

    Raises:
        DataError: There is none, or two of that name; the message lists the columns.
    """
    folded = [str(name).strip().lower() for name in columns]
    doubled = sorted({name for name in folded if folded.count(name) > 1})
    wanted = [given.strip().lower()] if given else role.names
    for name in wanted:
        if name in doubled:
            raise DataError(f"{path} 有两列都叫 {name}", todo="给它们不同的列名。")
        if name in folded:
            return folded.index(name)
    other = len(folded) == 1 and next((mark for mark in ("\t", ";", "；", "|") if mark in folded[0]), "")
    raise DataError(
        f"{path} 里找不到{role.title}列",
        expected=given or "、".join(role.names[:8]) + " 等",
        found="、".join(map(repr if other else str, columns))[:300] or "没有列",
        todo="像是用制表符分隔：改名为 .tsv。"
        if other == "\t"
        else "用逗号分隔各列。"
        if other
        else f"用 {role.flag} 指出列名。",
    )


@dataclass
class Source:
    """A table whose rows are read as they are asked for, once.

    Attributes:
        path: The file; of standard input a name with the ending of its format.
        content: What the format's reader gave.
        rows: All rows, among them those that cannot be read.
        first_error: Why the first row cannot be read (Chinese), or "".

    Raises:
        DataError: It has absurdly many columns.
    """

    path: Path
    content: Content
    rows: Iterator[Row]
    first_error: str

    def __post_init__(self) -> None:
        if len(self.content.columns) > MAX_COLUMNS:
            raise DataError(
                f"{self.path} 的列太多",
                expected=f"不超过 {MAX_COLUMNS:,} 列",
                found=f"{len(self.content.columns):,} 列",
                todo="第一行要是列名；只有评论、没有列名的文件，先加一行列名 text。",
            )

    def column(self, given: str | None, role: Role) -> Key:
        """Find a column; the arguments are those of ``find_column``.

        Returns:
            The key into ``Row.values``.

        Raises:
            DataError: There is none, or two of that name; the message lists the columns.
        """
        content = self.content
        try:
            return self._key(find_column(self.path, content.columns, given, role))
        except DataError as error:
            if content.keys is None:
                self._raise(error)
        # The first object of a JSONL file need not have every key, and may not be one.
        content.columns[:] = content.keys()
        try:
            return self._key(find_column(self.path, content.columns, given, role))
        except DataError as error:
            self._raise(error)

    def _raise(self, error: DataError) -> NoReturn:
        """Where there are no columns at all, the first row says more than their list would."""
        if self.content.columns:
            raise error
        raise DataError(error.problem, expected=error.expected, found=self.first_error) from None

    def _key(self, index: int) -> Key:
        return self.content.columns[index] if self.path.suffix.lower() in JSON else index

    def name(self, key: Key) -> str:
        """The name of the column whose key ``column`` returned."""
        return key if isinstance(key, str) else self.content.columns[key]

    def cell(self, row: Row, key: Key, role: Role) -> tuple[str, str]:
        """Read one cell as text.

        Args:
            row: A row.
            key: The column's, from ``column``.
            role: What the column is for, for the reason.

        Returns:
            (what stands there, ""), or ("", why nothing does); of a row that could not be read, why not.
        """
        if row.error:
            return "", row.error
        value = row.values[key]
        if isinstance(value, (dict, list)):
            return "", f"{role.title}不是文字：是一个{'对象' if isinstance(value, dict) else '数组'}"
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                return "", f"{role.title}不是 UTF-8"
        text = cell_text(value)
        if text.strip():
            return text, ""
        for area in self.content.merged:
            if area.holds(row.line, key):
                return "", f"{role.title}是空的：在合并单元格 {area.name} 里，只有左上角有值"
        return "", f"{role.title}是空的"

    def text(self, row: Row, key: Key) -> tuple[str, str]:
        """Read one cell as a text for a model.

        Returns:
            (the text, ""), or ("", why no door takes it: see ``data.text``).
        """
        text, error = self.cell(row, key, TEXT)
        error = error or text_fault(text)
        return ("", error) if error else (text, "")

    def held(self) -> Iterator[Row]:
        """The rows, for those who keep them all.

        Raises:
            DataError: There are more than ``MAX_HELD_ROWS``, which is said before they fill the memory.
        """
        if self.content.most > MAX_HELD_ROWS:
            counted = open_rows(self.path).rows
            if sum(1 for _ in islice(counted, MAX_HELD_ROWS + 1)) > MAX_HELD_ROWS:
                raise DataError(
                    f"{self.path} 的行数太多",
                    expected=f"不超过 {MAX_HELD_ROWS / 10_000:g} 万行：训练和审计要把所有行放进内存",
                    todo="抽一部分来用：几万行之后，再多的行几乎不再提高准确率。预测（--input）没有这个限制。",
                )
        return self.rows


def open_rows(path: Path) -> Source:
    """Open a file, by its ending, as a stream of rows; a row that cannot be read carries its reason.

    Raises:
        DataError: The file as a whole cannot be used; at once, or while rows are read.
    """
    check_content(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(f"不认识的文件类型：{path}", expected="、".join(SUFFIXES), todo="另存为其中一种。")
    try:
        content = READERS[suffix](path)
        rows = _readable(path, content.rows)
        first = next(rows, None)
    except OSError as error:
        raise unreadable(path, error) from error
    if first is None:
        raise DataError(f"{path} 只有表头，没有数据", found="、".join(map(str, content.columns))[:200])
    return Source(path, content, chain([first], rows), first.error)


def data_files(folder: Path) -> list[Path]:
    """What in a folder is called like a table, by name.

    A link that leads nowhere, a pipe or a folder of such a name is among them: opening it says what it is, where
    leaving it out would lose the rows that were meant.

    Raises:
        DataError: The folder cannot be listed.
    """
    return [path for path in list_folder(folder) if path.suffix.lower() in SUFFIXES]


def _readable(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise unreadable(path, error) from error


@dataclass
class Table:
    """A whole file.

    Attributes:
        path: The file.
        columns: Their names in the order of the file.
        rows: The cells as they were read, one sequence a data row.
        notes: Chinese lines for the user.
    """

    path: Path
    columns: list[str]
    rows: list[Sequence[Any]]
    notes: list[str] = field(default_factory=list)

    def column(self, given: str | None, role: Role) -> int:
        """The index of a column; arguments and errors are those of ``find_column``."""
        return find_column(self.path, self.columns, given, role)


def read_table(path: Path) -> Table:
    """Read a whole file.

    Raises:
        DataError: As ``open_rows``; or there are rows that cannot be read, which the message lists.
    """
    source = open_rows(path)
    rows, faults = [], Faults(path)
    for row in source.held():
        if row.error:
            faults.add(row.number, row.line, row.error)
        else:
            rows.append(row.values)
    if faults:
        raise faults.error(todo="改正或删掉这些行。")
    columns = source.content.columns
    if rows and isinstance(rows[0], dict):
        columns = union_of_keys(path, rows)
        rows = [[item[name] for name in columns] for item in rows]
    return Table(path, columns, rows, source.content.notes)
