"""What ``--input`` names: files, a folder or a pattern, and the columns that all of them have."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.core.paths import user_path
from zhsenti.data.formats import MAX_COLUMNS
from zhsenti.data.read import JSON, SUFFIXES, Source, data_files
from zhsenti.data.sniff import LOCK, is_folder, list_folder


def find_inputs(text: str) -> tuple[list[Path], list[str]]:
    """The files that ``--input`` names.

    Args:
        text: A file, a folder, or a pattern.

    Returns:
        The files in order, and notes (Chinese) on what in a folder is no table.

    Raises:
        DataError: There are none.
    """
    path = user_path(text)
    if glob.has_magic(text) and not os.path.exists(path):
        named = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [one for one in named if not one.name.startswith(LOCK) and not os.path.isdir(one)]
        if not files:
            raise DataError(f"没有文件符合 {text}", todo="检查通配符；要加引号，免得 shell 先展开它。")
        return files, []
    if not is_folder(path):
        return [path], []
    files = data_files(path)
    others = [one.name for one in list_folder(path) if one not in files and os.path.isfile(one)]
    if not files:
        raise DataError(
            f"{path} 里没有数据文件", expected="、".join(SUFFIXES), found="、".join(others[:8]) or "空文件夹"
        )
    skipped = f"{path} 里不是表格、没有读的：{'、'.join(others[:8])}{' 等' if len(others) > 8 else ''}"
    return files, [skipped] if others else []


def column_names(source: Source, every_key: bool) -> list[str]:
    """The columns of one input.

    Args:
        source: The input; no row of it is taken.
        every_key: Read a .jsonl file once more for the keys of all its objects; else its columns are those of the first
            readable object.

    Raises:
        DataError: It has absurdly many.
    """
    content = source.content
    if content.keys is not None and (every_key or len(content.columns) > MAX_COLUMNS):
        return list(content.keys())
    return list(content.columns)


def common_columns(paths: Sequence[Path], columns: Sequence[Sequence[str]]) -> list[str]:
    """The columns that all inputs have.

    Args:
        paths: The inputs.
        columns: Of each of them.

    Returns:
        The first one's; of JSON objects all keys there are.

    Raises:
        DataError: Two inputs have different ones.
    """
    if all(path.suffix.lower() in JSON for path in paths):
        return list(dict.fromkeys(key for keys in columns for key in keys))
    path, first = paths[0], columns[0]
    doubled = len(set(first)) < len(first)  # then names do not say which column is which
    for other_path, other in zip(paths[1:], columns[1:], strict=True):
        if list(other) != list(first) if doubled else sorted(map(str, other)) != sorted(map(str, first)):
            raise DataError(
                f"{other_path} 的列与 {path} 的不同",
                expected="、".join(map(str, first))[:200],
                found="、".join(map(str, other))[:200],
                todo="分开预测，或让各文件的列名相同" + ("（有重名的列，顺序也要相同）。" if doubled else "。"),
            )
    return [str(name) for name in first]
