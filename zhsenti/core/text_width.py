"""Text in a terminal's columns ("cells"): a Chinese character takes two of them, which ``textwrap`` does not know."""

from __future__ import annotations

import re
import unicodedata

# What may not be parted: a run of ASCII, or one character, with the brackets that open before it and the punctuation
# that closes after it.
_PIECES = re.compile(r"\s+|[（“‘《【「]*(?:[!-~]+|\S)[，。；：、！？）”’》】」…]*")


def cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def pad(text: str, width: int) -> str:
    """``text`` with blanks after it, so that it takes ``width`` columns."""
    return text + " " * (width - cells(text))


def wrap(text: str, width: int) -> list[str]:
    """Break ``text`` into lines.

    A line ends at a blank or between Chinese characters, never before punctuation that closes. Words, paths and
    commands stay whole where they fit. Line breaks in the text are kept, other runs of blanks become one. Where a
    paragraph would end in a line of a character or two, its lines are made a little shorter.

    Args:
        text: Any text.
        width: Columns a line may take, at least 2.

    Returns:
        The lines, none of them blank.
    """
    return [line for paragraph in text.splitlines() for line in _wrap_paragraph(paragraph, width) if line]


def _wrap_paragraph(text: str, width: int) -> list[str]:
    lines = _break(text, width)
    shortest = width // 5
    for narrower in range(width - 1, width * 3 // 4, -1):
        if len(lines) == 1 or cells(lines[-1]) >= shortest:
            break
        other = _break(text, narrower)
        if len(other) == len(lines):
            lines = other
    return lines


def _break(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        piece = " " if piece.isspace() else piece
        if cells(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
        while cells(line.rstrip()) > width:  # one piece that is longer than a line
            start = _longest_start(line, width)
            lines.append(start)
            line = line[len(start) :]
    return [*lines, line.rstrip()]


def _longest_start(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += cells(char)
        if used > width:
            return text[: max(index, 1)]
    return text
