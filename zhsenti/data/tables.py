"""CSV files for people: they open in Excel with their Chinese intact, and no cell of them is run as a formula."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

from zhsenti.core.files import replacing
from zhsenti.data.text import readable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BLANK = ("Zs", "Zl", "Zp", "Cc", "Cf")


@overload
def csv_safe(value: str) -> str: ...
@overload
def csv_safe(value: object) -> object: ...
def csv_safe(value: object) -> object:
    """A value as a cell: text that a spreadsheet would run gets a leading ', None is empty, numbers stay numbers.

    Spreadsheets look past what shows nothing (a BOM, a no-break space, a vertical tab), and read full-width and small
    signs (＝ ﹦) as the plain ones.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = readable(value).replace("\0", "\ufffd")
    start = next((char for char in text if char in "\t\r" or unicodedata.category(char) not in _BLANK), "")
    return f"'{text}" if start and unicodedata.normalize("NFKC", start) in _FORMULA else text


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all, in UTF-8 with a BOM, as Excel expects.

    Args:
        path: The file; missing folders are made.
        columns: The header.
        rows: Cells of any type; see ``csv_safe``.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([csv_safe(value) for value in row] for row in rows)
        stream.flush()
        os.fsync(stream.fileno())
