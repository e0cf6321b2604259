"""Append-only JSON lines that survive a kill, a full disk and a power cut.

One record a line, UTF-8. Whatever ends a run in the middle of a write leaves at most one torn line at the end; it does
not count when the file is read, and the next append cuts it away before it writes::

    {"chunk": 0, …}\\n        counts
    {"chunk": 1, …}\\n        counts
    {"chunk": 2, "lo         torn: read() leaves it out, append() cuts the file here

A log that people read, and that no program counts on, is opened with ``tail_only``: whatever stands in the middle of it
stays, and only a torn last line goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from zhsenti.core.files import sync_folder

TAIL_BYTES = 65_536  # read at once when the last line break is looked for

Record = dict[str, Any]


class Journal:
    """The records of one file. One writer at a time: callers that can meet hold a lock.

    Args:
        path: The file. The first append makes it; its folder must be there.
        ascii: Escape everything outside ASCII. Without it Chinese is written as it is, for people who read along.
        tail_only: Appending judges the end of the file alone: a last line that is torn is cut away, one that only lacks
            its line break gets it, and no other line is ever lost, whatever it holds.

    Attributes:
        path: As given.
    """

    def __init__(self, path: Path, *, ascii: bool = False, tail_only: bool = False) -> None:
        self.path = path
        self._ascii = ascii
        self._tail_only = tail_only
        self._size: int | None = None  # bytes of whole lines; None until the file was read

    def read(self, accept: Callable[[Record], object] | None = None) -> list[Record]:
        """All records up to the first line that is torn, is no JSON object, or that ``accept`` refuses.

        What stands from there on does not count, and is cut away by the next append; reading changes nothing.

        Args:
            accept: Called with each record in order. A ValueError, KeyError, TypeError or IndexError that it raises
                means that the record is not one of the caller's.

        Returns:
            The records in order; none where there is no file.

        Raises:
            OSError: The file is there but cannot be read.
        """
        records: list[Record] = []
        good = 0
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            for line in stream:
                try:
                    record = _parse(line)
                    if accept is not None:
                        accept(record)
                except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                    break
                records.append(record)
                good += len(line)
        self._size = good
        return records

    def append(self, *records: Record, sync: bool = True) -> None:
        """Write all ``records`` in one go, or none of them.

        Args:
            records: JSON objects.
            sync: Come back only when the records would survive a power cut (some milliseconds).

        Raises:
            OSError: The disk took less than all. Nothing of ``records`` counts then; the next append may work again.
            TypeError: A record holds something that JSON cannot. Nothing was written.
        """
        data = b"".join(map(self._line, records))
        size = _size_of(self.path)
        if self._tail_only:
            good, is_whole = (size, True) if size == self._size else _whole_lines(self.path)
            data = data if is_whole else b"\n" + data
        else:
            if self._size is None or size < self._size:  # someone took the file away, or cut it
                self.read()
            good = self._size or 0
        is_new = not self.path.exists()
        try:
            # Unbuffered: a buffer that could not be written would be tried again when the file is closed.
            with self.path.open("ab", buffering=0) as stream:
                stream.truncate(good)
                rest = memoryview(data)
                while rest:  # a disk that fills up takes a part and says so only at the next write
                    rest = rest[stream.write(rest) :]
                if sync:
                    os.fsync(stream.fileno())
            if sync and is_new:
                sync_folder(self.path.parent)
        except BaseException:  # Ctrl-C too
            with suppress(OSError):
                if _size_of(self.path) > good:
                    os.truncate(self.path, good)
            raise
        self._size = good + len(data)

    def _line(self, record: Record) -> bytes:
        try:
            return (json.dumps(record, ensure_ascii=self._ascii) + "\n").encode()
        except UnicodeEncodeError:  # a lone surrogate, such as a file's name may hold: UTF-8 cannot, an escape can
            return (json.dumps(record) + "\n").encode()


def _parse(line: bytes) -> Record:
    if not line.endswith(b"\n"):
        raise ValueError("torn")
    record = json.loads(line.decode("utf-8", "surrogatepass"))
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    return record


def _whole_lines(path: Path) -> tuple[int, bool]:
    """Bytes of the file without a torn last line, and whether they end with a line break (or are none)."""
    if not path.exists():
        return 0, True
    with path.open("rb") as stream:
        size = position = stream.seek(0, os.SEEK_END)
        last = b""
        while position and b"\n" not in last:
            step = min(TAIL_BYTES, position)
            position = stream.seek(position - step)
            last = stream.read(step) + last
    last = last.rpartition(b"\n")[2]
    if not last:
        return size, True
    try:
        _parse(last + b"\n")
    except (ValueError, RecursionError):
        return size - len(last), True
    return size, False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
