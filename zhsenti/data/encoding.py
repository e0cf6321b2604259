"""Which encoding a text file is in, where nobody says: people's files are UTF-8, GB18030 or UTF-16."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol, TypeVar

from zhsenti.data.sniff import is_packed

MAX_LINE = 16 * 2**20  # bytes (UTF-16: characters)
HEAD = 400  # bytes that show a byte order mark, or the zero halves of UTF-16
_PIECE = 2**20
_WIDE = re.compile("[\u2e80-\uffff\U00010000-\U0010ffff]")  # Han, kana, full-width forms, emoji


Text = TypeVar("Text", bytes, str, covariant=True)


class Readable(Protocol[Text]):
    """What ``raw_lines`` uses of a stream."""

    def readline(self, limit: int = -1, /) -> Text:
        """The next line with its end, or ``limit`` of its bytes or characters; nothing at the end."""
        ...


@dataclass(frozen=True)
class Encoding:
    """How a text file's bytes are read.

    Attributes:
        codec: Python's name.
        name: What users call it.
        bom: How many bytes a byte order mark takes at the beginning.
    """

    codec: str
    name: str
    bom: int = 0


UTF8 = Encoding("utf-8", "UTF-8")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8（BOM）"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)


def find_encoding(stream: IO[bytes], head: bytes, *, is_utf8: bool) -> Encoding:
    """Decide by the byte order mark; strict UTF-8; UTF-16's zero bytes; else what most lines are in.

    Args:
        stream: The file, which is read once more only where it is neither UTF-8 nor UTF-16.
        head: Its first ``HEAD`` bytes.
        is_utf8: Whether all of it is valid UTF-8.

    Returns:
        The encoding; UTF-8 for what is no text at all.

    Raises:
        OSError: The file cannot be read.
    """
    for bom, codec, name in _BOMS:
        if head.startswith(bom):
            return Encoding(codec, name, len(bom))
    if codec := _utf16(head, is_utf8):
        return Encoding(codec, "UTF-16（无 BOM）")
    if not is_utf8 and not is_packed(head):
        stream.seek(0)
        if _mostly_gb18030(stream):
            return Encoding("gb18030", "GB18030")
    return UTF8


def _utf16(head: bytes, is_utf8: bool) -> str:
    """The codec when the zero bytes say UTF-16 without a BOM: ASCII separators and digits have a zero half there.

    Zeros that begin after the first line, or are few in what is UTF-8, are stray NUL bytes.
    """
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if odd + even < 2 or (odd and even) or (is_utf8 and odd + even < 0.4 * len(head)):
        return ""
    if b"\n" in head and head.index(0) > head.index(b"\n") + 1:
        return ""
    return "utf-16-le" if odd else "utf-16-be"


def _mostly_gb18030(stream: IO[bytes]) -> bool:
    """Are there more lines in GB18030 than lines in UTF-8? ASCII lines and broken ones say nothing."""
    utf8 = gb = 0
    for raw, whole in raw_lines(stream):
        if raw.isascii() or not whole:
            continue
        if is_utf8_line(raw):
            utf8 += 1
        else:
            gb += _decodes(raw, "gb18030")
    return gb > utf8


def is_utf8_line(raw: bytes) -> bool:
    """UTF-8 with wide characters, and not by chance: common Chinese in GB2312 can be valid UTF-8 when it is short."""
    try:
        return bool(_WIDE.search(raw.decode("utf-8"))) and not _decodes(raw, "gb2312")
    except UnicodeDecodeError:
        return False


def _decodes(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def raw_lines(stream: Readable[Text]) -> Iterator[tuple[Text, bool]]:
    """Read lines of bytes or of text, without ever holding one that is longer than ``MAX_LINE``.

    Yields:
        (the line, True), or (its beginning, False) where it is too long; the rest of it is read and forgotten.
    """
    while raw := stream.readline(MAX_LINE + 1):
        whole, rest = len(raw) <= MAX_LINE, raw
        while not whole and rest and rest[-1:] not in ("\n", b"\n"):
            rest = stream.readline(_PIECE)
        yield raw, whole
