"""Physical lines of a text file in whatever encoding it has, in constant memory; a bad line is one bad line."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

MAX_LINE = 16 * 2**20  # bytes (UTF-16: characters)
_CHUNK = 2**20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8（BOM）"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_WIDE = re.compile("[\u2e80-\uffff\U00010000-\U0010ffff]")  # Han, kana, full-width forms, emoji


class Line(NamedTuple):
    """``number`` 1-based;  ``text`` with its line end, what was undecodable replaced;  ``error`` Chinese, or ""."""

    number: int
    text: str
    error: str


@dataclass(frozen=True)
class Encoding:
    """codec  Python's name;  name  the user's;  bom  bytes to skip;  lines  at most so many lines in the file."""

    codec: str
    name: str
    bom: int
    lines: int


UTF8 = Encoding("utf-8", "UTF-8", 0, 2**63)  # of a stream, whose length nobody knows


def find_encoding(path: Path) -> Encoding:
    """BOM; strict UTF-8; UTF-16 by its zero bytes; else what most lines are in: UTF-8 or GB18030.

    One pass over the file, and a second one where it is neither pure UTF-8 nor UTF-16. Raises OSError.
    """
    with path.open("rb") as stream:
        head = stream.read(400)
        stream.seek(0)
        strict, newlines = _scan(stream)
        bom, codec, name = next((b for b in _BOMS if head.startswith(b[0])), (b"", "", ""))
        if codec:
            return Encoding(codec, name, len(bom), newlines + 1)
        if wide := _utf16(head, strict):
            return Encoding(wide, "UTF-16（无 BOM）", 0, newlines + 1)
        if not strict:
            stream.seek(0)
            if _mostly_gb18030(stream):
                return Encoding("gb18030", "GB18030", 0, newlines + 1)
    return Encoding("utf-8", "UTF-8", 0, newlines + 1)


def _scan(stream: IO[bytes]) -> tuple[bool, int]:
    """Is all of it UTF-8, and how many newline bytes has it?"""
    decoder, strict, newlines = codecs.getincrementaldecoder("utf-8")(), True, 0
    while chunk := stream.read(_CHUNK):
        newlines += chunk.count(b"\n")
        if strict:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                strict = False
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        strict = False
    return strict, newlines


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
    for raw, whole in _raw_lines(stream):
        if raw.isascii() or not whole:
            continue
        if _is_utf8(raw):
            utf8 += 1
        else:
            gb += _decodes(raw, "gb18030")
    return gb > utf8


def _is_utf8(raw: bytes) -> bool:
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


def _raw_lines(stream: Any) -> Iterator[tuple[Any, bool]]:
    """(line, True), or (its beginning, False) where it is longer than MAX_LINE; the rest is read and forgotten."""
    while raw := stream.readline(MAX_LINE + 1):
        whole, rest = len(raw) <= MAX_LINE, raw
        while not whole and rest and rest[-1:] not in ("\n", b"\n"):
            rest = stream.readline(_CHUNK)
        yield raw, whole


def read_lines(stream: IO[bytes], encoding: Encoding) -> Iterator[Line]:
    """Every line of ``stream`` (at its start). Raises OSError."""
    stream.seek(encoding.bom)
    if encoding.codec.startswith("utf-16"):
        return _utf16_lines(stream, encoding)
    return _byte_lines(stream, encoding)


class _Pipe:
    """What reading lines uses of a stream, for one that cannot be asked where it is; a BOM is left out."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def readline(self, limit: int) -> bytes:
        raw = self._stream.readline(limit)
        if not self._position:
            raw = raw.removeprefix(codecs.BOM_UTF8) or (raw and b"\n")
        self._position += len(raw)
        return raw

    def tell(self) -> int:
        return self._position


def pipe_lines(stream: IO[bytes]) -> Iterator[Line]:
    """Every line of a UTF-8 stream that cannot be rewound, as it comes. Raises OSError."""
    pipe: Any = _Pipe(stream)
    return _byte_lines(pipe, UTF8)


_TOO_LONG = f"一行太长：超过 {MAX_LINE >> 20} MB"


def _byte_lines(stream: IO[bytes], encoding: Encoding) -> Iterator[Line]:
    codec, offset, error = encoding.codec, encoding.bom, ""
    for number, (raw, whole) in enumerate(_raw_lines(stream), start=1):
        if not whole:
            yield Line(number, "", f"{_TOO_LONG}（第 {number} 行）")
            offset = stream.tell()
            continue
        try:
            text, error = raw.decode(codec), ""
            if codec == "gb18030" and not raw.isascii() and _is_utf8(raw):
                error = f"像是 UTF-8，不是 {encoding.name}：第 {number} 行、第 {offset} 字节起"
        except UnicodeDecodeError as bad:
            text = raw.decode(codec, "replace")
            error = f"不是 {encoding.name}：第 {number} 行、第 {offset + bad.start} 字节起"
        if "\0" in text and not error:
            error = f"含 NUL 字节：第 {number} 行、第 {offset + raw.index(0)} 字节"
        yield Line(number, text, error)
        offset += len(raw)


def _mark(error: UnicodeError) -> tuple[str, int]:
    """What is no UTF-16 becomes a lone surrogate, which no valid text holds."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("zhsenti.mark", _mark)


def _utf16_lines(stream: IO[bytes], encoding: Encoding) -> Iterator[Line]:
    reader = io.TextIOWrapper(stream, encoding.codec, errors="zhsenti.mark", newline="\n")
    try:
        for number, (text, whole) in enumerate(_raw_lines(reader), start=1):
            if not whole:
                yield Line(number, "", f"{_TOO_LONG}（第 {number} 行）")
            elif _SURROGATE.search(text):
                error = f"不是 {encoding.name}：第 {number} 行有不成对的代理项"
                yield Line(number, _SURROGATE.sub("\ufffd", text), error)
            else:
                yield Line(number, text, f"含 NUL 字节：第 {number} 行" if "\0" in text else "")
    finally:
        if not stream.closed:
            reader.detach()  # whoever opened the file closes it
