"""How large a rectangle the cells of a workbook span: its reader takes memory for all of it, empty or not."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from zhsenti.core.errors import DataError

BLOCK = 1 << 20
LONGEST = 1 << 20  # bytes from one tag to the next; a cell holds 32,767 characters
# Cells of the rectangle: at most so many in all (about 40 bytes each), and where they are few, so many for each that is
# filled. A table has hardly any that are empty; two cells in opposite corners of a sheet span 17 thousand million.
MOST, ALWAYS, FOR_EACH = 32_000_000, 2_000_000, 16
# A cell or a row, under any prefix; its attributes, which hold no "<". "/" at their end: it is empty.
_TAG = re.compile(rb"<(?:[\w.-]+:)?(c|row)(?:[\s/]([^<]*))?>")
# Cells as all writers in use spell them, and cells however spelled: where both are as many, the first tell it all.
_PLAIN = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"[^<]*?(/?)>')
_ANY = re.compile(rb"<(?:[\w.-]+:)?c[\s/>]")
_PLACE = re.compile(rb"(?:^|\s)r\s*=\s*[\"']([A-Za-z]{0,4})([0-9]{1,10})[\"']")


class _Area:
    """The rectangle of a sheet's filled cells, as its XML names them.

    Attributes:
        top: First row that holds one.
        bottom: Last row that holds one.
        columns: Every column that holds one.
        filled: How many there are.
    """

    def __init__(self) -> None:
        self.top, self.bottom, self.filled = 1 << 40, 0, 0
        self.columns: set[int] = set()
        self._row = self._column = 0  # where the last tag was
        self._known: dict[bytes, int] = {}  # a column's letters and its number

    def read(self, text: bytes, end: int) -> None:
        """Take the tags in ``text`` before ``end``."""
        last = text.rfind(b"<c ", 0, end)
        plain = _PLAIN.findall(text, 0, max(last, 0))
        if plain and len(plain) == len(_ANY.findall(text, 0, last)):
            filled = [(letters, int(row)) for letters, row, empty in plain if not empty]
            if filled:
                rows = [row for _, row in filled]
                self.filled += len(filled)
                self.columns.update(map(self._number, {letters for letters, _ in filled}))
                self.top, self.bottom = min(self.top, *rows), max(self.bottom, *rows)
            self._read_one_by_one(text, last, end)
        else:
            self._read_one_by_one(text, 0, end)

    def _read_one_by_one(self, text: bytes, start: int, end: int) -> None:
        for tag in _TAG.finditer(text, start, end):
            kind, attributes = tag.groups(b"")
            place = _PLACE.search(attributes) if attributes else None
            if kind == b"row":
                self._row, self._column = int(place[2]) if place else self._row + 1, 0
                continue
            if place and place[1]:
                self._row, self._column = int(place[2]), self._number(place[1])
            else:
                self._column += 1
            if not attributes.endswith(b"/"):
                self.filled += 1
                self.columns.add(self._column)
                self.top, self.bottom = min(self.top, self._row), max(self.bottom, self._row)

    def _number(self, letters: bytes) -> int:
        number = self._known.get(letters)
        if number is None:
            number = 0
            for letter in letters.upper():
                number = number * 26 + letter - 64
            self._known[letters] = number
        return number

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the rectangle."""
        if not self.filled:
            return 0, 0
        return self.bottom - self.top + 1, max(self.columns) - min(self.columns) + 1


def check_area(path: Path) -> None:
    """Refuse a workbook one of whose sheets spans far more cells than it fills.

    Args:
        path: An .xlsx; another file is left to its reader, which says what is wrong with it.

    Raises:
        ValueError: It is damaged; a Chinese reason.
        DataError: It does; or it is a zip file that is no .xlsx, whose sheets nobody has looked at.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as book:
        if not any(_name(info) == "xl/workbook.xml" for info in book.infolist()):
            raise DataError(f"{path} 不是 .xlsx", found="别的压缩文件", todo="在 Excel 里打开并另存为 .xlsx。")
        sheets = _sheets(book)
        for info in book.infolist():
            if _name(info) in sheets:
                with book.open(info) as stream:
                    _refuse(path, _area_of(stream))


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name as the reader of workbooks compares it: without case, a backslash being a slash."""
    return info.filename.replace("\\", "/").lower()


def _sheets(book: zipfile.ZipFile) -> set[str]:
    """The names, in lower case, under which the workbook's sheets lie in the file."""
    found = set()
    for info in book.infolist():
        if _name(info) == "xl/_rels/workbook.xml.rels":
            with book.open(info) as stream:
                for _, element in ElementTree.iterparse(stream):
                    target = element.get("Target", "").replace("\\", "/").lower()
                    found |= {target.lstrip("/"), f"xl/{target}", target}
    return found


def _area_of(stream: IO[bytes]) -> _Area:
    area, rest = _Area(), b""
    while block := stream.read(BLOCK):
        text = rest + block
        whole = max(text.rfind(b"<"), 0)  # what begins there may go on in the next block
        if len(text) - whole > LONGEST:
            raise ValueError("表格的 XML 里有一段太长")
        area.read(text, whole)
        rest = text[whole:]
    area.read(rest, len(rest))
    return area


def _refuse(path: Path, area: _Area) -> None:
    rows, columns = area.size
    allowed = min(MOST, max(ALWAYS, FOR_EACH * area.filled))
    if rows * columns > allowed:
        raise DataError(
            f"{path} 里有一张表跨得太大",
            expected=f"不超过 {allowed:,} 格",
            found=f"{rows:,} 行 × {columns:,} 列，有内容的只有 {area.filled:,} 格",
            todo="在 Excel 里删掉表格外面的零散内容，或另存为 .csv。",
        )
