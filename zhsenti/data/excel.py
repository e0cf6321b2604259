"""Excel workbooks, read whole: their first sheet as rows."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

from zhsenti.core.errors import DataError, first_line
from zhsenti.data.excel_area import check_area
from zhsenti.data.formats import Content, Merged, Row
from zhsenti.data.sniff import check_whole

AGAIN = "在 Excel 里打开并另存为 .xlsx。"
_DAMAGED = (zipfile.BadZipFile, ElementTree.ParseError, zlib.error, EOFError, RuntimeError, ValueError)


def read_excel(path: Path) -> Content:
    """Rows of a workbook's first sheet; the first row that is not empty names the columns.

    Raises:
        DataError: It is no whole workbook, or is too large to be read whole.
        OSError: The file cannot be read.
    """
    import python_calamine

    check_whole(path, "Excel 文件")
    try:
        check_area(path)
    except _DAMAGED as error:
        raise DataError(f"{path} 不是完整的 Excel 文件", found=first_line(error), todo=AGAIN) from error
    try:
        with path.open("rb") as stream, python_calamine.load_workbook(stream) as book:
            names = book.sheet_names
            sheet = book.get_sheet_by_index(0)
            cells = sheet.to_python(skip_empty_area=True)
            top, left = sheet.start or (0, 0)
            merged = [_merged(area, left) for area in sheet.merged_cell_ranges or []]
    except (python_calamine.CalamineError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0][:200]
        todo = "内容若是文本就改名为 .csv。" if "detect" in reason else AGAIN
        raise DataError(f"{path} 不是完整的 Excel 文件", found=reason, todo=todo) from error
    filled = [(top + i + 1, row) for i, row in enumerate(cells) if any(str(cell).strip() for cell in row)]
    columns = [str(cell).strip() for cell in filled[0][1]] if filled else []
    rows = [Row(number, line, row) for number, (line, row) in enumerate(filled[1:], start=1)]
    notes = [f"{path.name}：只读第一张表“{names[0]}”，共 {len(names)} 张"] if len(names) > 1 else []
    return Content(columns, iter(rows), len(rows), notes, merged=merged, exact=True)


def _merged(area: tuple[tuple[int, int], tuple[int, int]], left: int) -> Merged:
    """``area``: (row, column) of its first and of its last cell in the sheet, from 0 on; the table begins at column
    ``left``."""
    (top, first), (bottom, last) = area
    name = f"{_cell_name(top, first)}:{_cell_name(bottom, last)}"
    return Merged(top + 1, bottom + 1, first - left, last - left, name)


def _cell_name(row: int, column: int) -> str:
    letters, column = "", column + 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return f"{letters}{row + 1}"
