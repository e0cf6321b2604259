"""Standard input as a source of rows, each answered as it comes."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.data.formats import Content, Row, delimited, json_lines
from zhsenti.data.lines import pipe_lines
from zhsenti.data.read import TEXT, Source

AHEAD, AHEAD_CHARACTERS = 2048, 4_000_000  # rows of a pipe, and characters in them, that are read ahead of the model
ENDLESS = sys.maxsize  # rows of a stream: nobody knows how many will come
KINDS = {"jsonl": "每行一个 JSON 对象", "text": "每行一条评论", "csv": "CSV", "tsv": "TSV"}


def standard_input() -> io.BufferedReader:
    """A reader of standard input that is not ``sys.stdin``'s own.

    A thread may still read from it at the interpreter's end. Were it sys.stdin's, Python would wait for its lock in
    vain then, and abort.

    Raises:
        DataError: There is no standard input.
    """
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (AttributeError, OSError, ValueError):
        raise DataError("没有标准输入", todo="用管道给它内容，或用 --input 文件。") from None


def open_stdin(stream: io.BufferedReader, kind: str, text_column: str | None) -> tuple[Source, str]:
    """Read ``stream`` (UTF-8) as it comes.

    Args:
        stream: Standard input, at its beginning.
        kind: jsonl, csv, tsv, text, or auto: by the first line.
        text_column: Name of the text column, where the user gave one.

    Returns:
        The source, and what it was taken for (Chinese).

    Raises:
        DataError: Nothing comes.
    """
    beginning = stream.peek(1 << 16).removeprefix(b"\xef\xbb\xbf")
    if not beginning:
        raise DataError("标准输入是空的", todo="用管道给它内容，或用 --input 文件。")
    if kind == "auto":
        kind = _kind(beginning.partition(b"\n")[0].decode("utf-8", "replace").strip(), text_column)
    path, lines = Path(f"标准输入.{kind}"), pipe_lines(stream)
    if kind == "jsonl":
        content = Content([], json_lines(lines), ENDLESS)
    elif kind == "text":
        filled = (line for line in lines if line.error or line.text.strip())
        rows = (Row(n, line.number, [line.text.rstrip("\r\n")], line.error) for n, line in enumerate(filled, start=1))
        content = Content(["text"], rows, ENDLESS)
    else:
        content = delimited(path, lines, kind, ENDLESS)
    head = list(islice(content.rows, 1))
    if not head:
        raise DataError("标准输入里没有数据行", found="、".join(content.columns)[:200])
    if kind == "jsonl":  # the first readable object says what the columns are
        while head[-1].error and len(head) < 1000 and (row := next(content.rows, None)):
            head.append(row)
        content.columns = list(head[-1].values)
    note = f"标准输入：按{KINDS[kind]}读（--input_format 可改）"
    return Source(path, content, chain(head, content.rows), head[0].error), note


def _kind(line: str, text_column: str | None) -> str:
    if line.startswith("{"):
        return "jsonl"
    wanted = {text_column.strip().lower()} if text_column else set(TEXT.names)
    mark = "\t" if "\t" in line else ","
    if wanted & {cell.strip().strip('"').lower() for cell in line.split(mark)}:
        return "tsv" if mark == "\t" else "csv"
    return "text"


@dataclass(frozen=True)
class _Item:
    """What the reading thread hands over: a row, the error that ended it, or neither at the end."""

    row: Row | None = None
    error: BaseException | None = None
    characters: int = 0


def as_they_come(rows: Iterator[Row]) -> Iterator[Row | None]:
    """``rows`` read by a thread of its own; None when the next one is not there yet."""
    waiting, changed = deque[_Item](), threading.Condition()
    held = 0  # characters

    def put(item: _Item) -> None:
        nonlocal held
        with changed:
            changed.wait_for(lambda: len(waiting) < AHEAD and held < AHEAD_CHARACTERS)
            waiting.append(item)
            held += item.characters
            changed.notify_all()

    def read() -> None:
        try:
            for row in rows:
                cells = row.values.values() if isinstance(row.values, dict) else row.values
                put(_Item(row, characters=sum(len(cell) for cell in cells if isinstance(cell, str))))
            put(_Item())
        except BaseException as error:
            put(_Item(error=error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        if not waiting:
            yield None
        with changed:
            changed.wait_for(lambda: waiting)
            item = waiting.popleft()
            held -= item.characters
            changed.notify_all()
        if item.error is not None:
            raise item.error
        if item.row is None:
            return
        yield item.row
