"""Text files as lines, in constant memory: one pass over the bytes to know the file, another one to read its lines.

A line that cannot be decoded, or is too long, is one bad line; the lines around it are read as if it were none.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from zhsenti.data.encoding import HEAD, MAX_LINE, UTF8, Encoding, Readable, find_encoding, is_utf8_line, raw_lines

_PIECE = 2**20
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_LONG = f"一行太长：超过 {MAX_LINE >> 20} MB"


class Line(NamedTuple):
    """One line.

    Attributes:
        number: From 1 on.
        text: With its line end; what could not be decoded is replaced.
        error: Why it cannot be used (Chinese), or "".
    """

    number: int
    text: str
    error: str


# ── one pass over the bytes ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Survey:
    """What one pass over a file's bytes tells.

    Attributes:
        encoding: Of a text file; of any other it means nothing.
        lines: The file has at most so many lines.
        sha256: Of the bytes, in hex.
    """

    encoding: Encoding
    lines: int
    sha256: str


MAX_SURVEYS = 4096  # files whose survey is remembered
_surveys: dict[tuple[str, int, int, int, int, int], Survey] = {}


def survey(path: Path) -> Survey:
    """Read a file once for all that must be known before its rows are read.

    The result is remembered while the file stays as it is, so that every further open of it costs nothing. A second
    pass is made only over a text that is neither UTF-8 nor UTF-16.

    Args:
        path: A plain file of any format.

    Returns:
        Encoding, number of lines and SHA-256.

    Raises:
        OSError: The file cannot be read.
    """
    key = _state(path, path.stat())
    if key in _surveys:
        return _surveys[key]
    began = time.time_ns()
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        result = _read_through(stream)
        key = _state(path, before)
        if key == _state(path, os.fstat(stream.fileno())) and _is_settled(before.st_mtime_ns, began):
            while len(_surveys) >= MAX_SURVEYS:
                _surveys.pop(next(iter(_surveys)), None)
            _surveys[key] = result
    return result


def _state(path: Path, stat: os.stat_result) -> tuple[str, int, int, int, int, int]:
    """A key that differs between files and after any change of one."""
    return str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_settled(modified: int, now: int) -> bool:
    """Whether the file is older than one tick of its clock, so that a later change must get another time (ns)."""
    tick = 2_000_000_000 if modified % 1_000_000_000 == 0 else 50_000_000  # some count in (two) whole seconds
    return now - modified > tick


def _read_through(stream: IO[bytes]) -> Survey:
    decoder, is_utf8 = codecs.getincrementaldecoder("utf-8")(), True
    digest, newlines, head = hashlib.sha256(), 0, b""
    while piece := stream.read(_PIECE):
        head = head or piece[:HEAD]
        digest.update(piece)
        newlines += piece.count(b"\n")
        is_utf8 = is_utf8 and _goes_on(decoder, piece)
    is_utf8 = is_utf8 and _goes_on(decoder, b"", final=True)
    return Survey(find_encoding(stream, head, is_utf8=is_utf8), newlines + 1, digest.hexdigest())


def _goes_on(decoder: codecs.IncrementalDecoder, piece: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        return False
    return True


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_lines(stream: IO[bytes], encoding: Encoding) -> Iterator[Line]:
    """Read every line of a file, wherever ``stream`` stands.

    Raises:
        OSError: The file cannot be read.
    """
    stream.seek(encoding.bom)
    if encoding.codec.startswith("utf-16"):
        return _utf16_lines(stream, encoding)
    return _byte_lines(stream, encoding)


def pipe_lines(stream: IO[bytes]) -> Iterator[Line]:
    """Read every line of a UTF-8 stream that cannot be rewound, as it comes.

    Raises:
        OSError: The stream cannot be read.
    """
    return _byte_lines(_Pipe(stream), UTF8)


class _Bytes(Readable[bytes], Protocol):
    """What reading lines of bytes uses of a stream."""

    def tell(self) -> int:
        """How many bytes have been read."""
        ...


class _Pipe:
    """A stream that cannot be asked where it is; a BOM is left out."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def readline(self, limit: int = -1, /) -> bytes:
        """The next line with its end, or ``limit`` of its bytes."""
        raw = self._stream.readline(limit)
        if not self._position:
            raw = raw.removeprefix(codecs.BOM_UTF8) or (raw and b"\n")
        self._position += len(raw)
        return raw

    def tell(self) -> int:
        """How many bytes have been read, as if there were no BOM."""
        return self._position


def _byte_lines(stream: _Bytes, encoding: Encoding) -> Iterator[Line]:
    codec, offset, error = encoding.codec, encoding.bom, ""
    for number, (raw, whole) in enumerate(raw_lines(stream), start=1):
        if not whole:
            yield Line(number, "", f"{_TOO_LONG}（第 {number} 行）")
            offset = stream.tell()
            continue
        try:
            text, error = raw.decode(codec), ""
            if codec == "gb18030" and not raw.isascii() and is_utf8_line(raw):
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
        for number, (text, whole) in enumerate(raw_lines(reader), start=1):
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
