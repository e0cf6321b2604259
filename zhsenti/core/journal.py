"""Append-only JSON lines that survive a kill, a full disk and a power cut.

One record a line, UTF-8. Whatever ends a run in the middle of a write leaves at most one torn line at the end; it does
not count when the file is read, and the next append cuts it away before it writes::

    {"chunk": 0, …}\\n        counts
    {"chunk": 1, …}\\n        counts
    {"chunk": 2, "lo         torn: read() leaves it out, append() cuts the file here
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from zhsenti.core.files import sync_folder

Record = dict[str, Any]


class Journal:
    """The records of one file. One writer at a time: callers that can meet hold a lock.

    Args:
        path: The file. The first append makes it; its folder must be there.
        ascii: Escape everything outside ASCII. Without it Chinese is written as it is, for people who read along.

    Attributes:
        path: As given.
    """

    def __init__(self, path: Path, *, ascii: bool = False) -> None:
        self.path = path
        self._ascii = ascii
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
        if self._size is None or _size_of(self.path) < self._size:  # someone took the file away, or cut it
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


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
