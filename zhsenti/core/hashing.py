"""SHA-256 of files, of JSON values and of rows. All three are written into saved folders: they must never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hex, read piece by piece.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value: object) -> str:
    """SHA-256 in hex of a JSON value; the order of an object's keys does not matter.

    Raises:
        TypeError: ``value`` holds something that JSON cannot.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def rows_sha256(rows: Iterable[Sequence[object]]) -> str:
    """SHA-256 in hex of rows of JSON values in the order given; of [text, label, aspect] it is a data set's hash.

    Raises:
        TypeError: A row holds something that JSON cannot.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(list(row)).encode())
    return digest.hexdigest()
