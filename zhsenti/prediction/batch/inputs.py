"""What ``--input`` names: files, a folder, a pattern, or standard input, as sources of rows with the same columns."""

from __future__ import annotations

import glob
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from zhsenti.core.errors import DataError
from zhsenti.core.paths import user_path
from zhsenti.data.formats import Content, Row, delimited, json_lines
from zhsenti.data.lines import ENDLESS, pipe_lines
from zhsenti.data.read import SUFFIXES, TEXT_NAMES, Source
from zhsenti.data.sniff import is_folder, list_folder

JSON = (".json", ".jsonl")
AHEAD, AHEAD_CHARACTERS = 2048, 4_000_000  # of a pipe that wait for the model: rows, and their text


def find_inputs(text: str) -> tuple[list[Path], list[str]]:
    """Files in order, and notes (Chinese) on what in a folder is none. Raises DataError when there are none."""
    path = user_path(text)
    if glob.has_magic(text) and not os.path.exists(path):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [one for one in found if os.path.isfile(one)]
        if not files:
            raise DataError(f"没有文件符合 {text}", todo="检查通配符；要加引号，免得 shell 先展开它。")
        return files, []
    if not is_folder(path):
        return [path], []
    inside = [one for one in list_folder(path) if os.path.isfile(one)]
    files = [one for one in inside if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")]
    others = [one.name for one in inside if one not in files and not one.name.startswith(".")]
    if not files:
        raise DataError(
            f"{path} 里没有数据文件", expected="、".join(SUFFIXES), found="、".join(others[:8]) or "空文件夹"
        )
    skipped = f"{path} 里不是表格、没有读的：{'、'.join(others[:8])}{' 等' if len(others) > 8 else ''}"
    return files, [skipped] if others else []


def columns_of(sources: Iterable[Source]) -> list[str]:
    """The columns all sources have: the first one's; of JSON objects all keys there are. Raises DataError.

    Goes through ``sources`` once and keeps none: each may hold a file open, or a whole sheet.
    """
    every = [(source.path, list(source.content.keys() if source.content.keys else source.content.columns))
             for source in sources]  # fmt: skip
    if all(path.suffix.lower() in JSON for path, _ in every):
        return list(dict.fromkeys(key for _, keys in every for key in keys))
    path, first = every[0]
    doubled = len(set(first)) < len(first)  # then names do not say which column is which
    for other_path, other in every[1:]:
        if other != first if doubled else sorted(map(str, other)) != sorted(map(str, first)):
            raise DataError(
                f"{other_path} 的列与 {path} 的不同",
                expected="、".join(map(str, first))[:200],
                found="、".join(map(str, other))[:200],
                todo="分开预测，或让各文件的列名相同" + ("（有重名的列，顺序也要相同）。" if doubled else "。"),
            )
    return [str(name) for name in first]


# ── standard input ────────────────────────────────────────────────────────────────────────────────────────────────


def standard_input() -> Any:
    """A binary buffered reader of its own: one that a thread reads at the interpreter's end must not be sys.stdin's,
    whose lock Python then waits for in vain and aborts. Raises DataError.
    """
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (AttributeError, OSError, ValueError):
        raise DataError("没有标准输入", todo="用管道给它内容，或用 --input 文件。") from None


def open_stdin(stream: Any, kind: str, text_column: str | None) -> tuple[Source, str]:
    """``stream`` (a binary buffered reader of UTF-8), read as it comes, and what it was taken for (Chinese).

    kind  jsonl, csv, tsv, text, or auto: by the first line. Raises DataError when nothing comes.
    """
    head = stream.peek(1 << 16).removeprefix(b"\xef\xbb\xbf")
    if not head:
        raise DataError("标准输入是空的", todo="用管道给它内容，或用 --input 文件。")
    kind = _kind(head.partition(b"\n")[0].decode("utf-8", "replace").strip(), text_column) if kind == "auto" else kind
    path, lines = Path(f"标准输入.{kind}"), pipe_lines(stream)
    if kind == "jsonl":
        rows = json_lines(lines)
        content = Content([], rows, ENDLESS)
    elif kind == "text":
        held = (line for line in lines if line.error or line.text.strip())
        rows = (Row(n, line.number, [line.text.rstrip("\r\n")], line.error) for n, line in enumerate(held, start=1))
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
    names = {"jsonl": "每行一个 JSON 对象", "text": "每行一条评论", "csv": "CSV", "tsv": "TSV"}
    note = f"标准输入：按{names[kind]}读（--input_format 可改）"

    return Source(path, content, chain(head, content.rows), head[0].error), note


def _kind(line: str, text_column: str | None) -> str:
    if line.startswith("{"):
        return "jsonl"
    wanted = {text_column.strip().lower()} if text_column else set(TEXT_NAMES)
    mark = "\t" if "\t" in line else ","
    if wanted & {cell.strip().strip('"').lower() for cell in line.split(mark)}:
        return "tsv" if mark == "\t" else "csv"
    return "text"


def as_they_come(rows: Iterator[Row]) -> Iterator[Row | None]:
    """``rows`` read by a thread of its own; None when the next one is not there yet."""
    waiting, changed = deque[Any](), threading.Condition()
    end, held = object(), 0  # characters

    def put(found: Any, characters: int) -> None:
        nonlocal held
        with changed:
            changed.wait_for(lambda: len(waiting) < AHEAD and held < AHEAD_CHARACTERS)
            waiting.append((found, characters))
            held += characters
            changed.notify_all()

    def read() -> None:
        try:
            for row in rows:
                cells = row.values.values() if isinstance(row.values, dict) else row.values
                put(row, sum(len(cell) for cell in cells if isinstance(cell, str)))
            put(end, 0)
        except BaseException as error:
            put(error, 0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        if not waiting:
            yield None
        with changed:
            changed.wait_for(lambda: waiting)
            found, characters = waiting.popleft()
            held -= characters
            changed.notify_all()
        if found is end:
            return
        if isinstance(found, BaseException):
            raise found
        yield found
