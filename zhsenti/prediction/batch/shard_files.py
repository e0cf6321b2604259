"""One shard as a file: the results of consecutive rows, in Parquet, whole or not there."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zhsenti.core.files import sync_folder
from zhsenti.core.hashing import file_sha256
from zhsenti.data.text import readable
from zhsenti.prediction.batch.windows import Result


@dataclass(frozen=True)
class Shard:
    """A finished shard, as its line in the manifest has it.

    Attributes:
        file: Number of the input, from 0.
        start: That input's data row where the shard begins, from 0.
        rows: How many results it holds.
        name: Its file's, in the work folder.
        sha256: Its file's.
    """

    file: int
    start: int
    rows: int
    name: str
    sha256: str

    @property
    def place(self) -> tuple[int, int]:
        """Where it begins: shards are ordered by this."""
        return self.file, self.start

    @property
    def end(self) -> int:
        """The first data row behind it."""
        return self.start + self.rows


def _name(file: int, start: int, rows: int) -> str:
    return f"{file:05}-{start:012}-{rows}.parquet"


def is_shard_name(name: str) -> bool:
    """Whether a file of this name is a shard, or one that was not finished."""
    return re.fullmatch(r"\d{5,}-\d{12,}-\d+\.parquet(\.[0-9a-f]{8})?", name) is not None


def shard_of(line: Mapping[str, object]) -> Shard | None:
    """The shard that a line of a manifest names; None where it names none."""
    numbers = [line.get(key) for key in ("file", "start", "rows")]
    name, digest = line.get("name"), line.get("sha256")
    if not (isinstance(name, str) and isinstance(digest, str)):
        return None
    file, start, rows = (number if type(number) is int and number >= 0 else -1 for number in numbers)
    if min(file, start) < 0 or rows < 1 or name != _name(file, start, rows):
        return None
    return Shard(file, start, rows, name, digest)


def write_shard(folder: Path, labels: int, file: int, start: int, results: Sequence[Result]) -> Shard:
    """Write the results of consecutive whole windows as one file, which appears whole.

    Args:
        folder: The work folder.
        labels: How many scores a row has.
        file: Number of the input.
        start: The first of the rows.
        results: One a row.

    Raises:
        OSError: It could not be written; nothing is left of it.
    """
    import pyarrow
    import pyarrow.parquet

    columns = {
        **{
            f"score_{index}": pyarrow.array([r.scores and r.scores[index] for r in results], pyarrow.float64())
            for index in range(labels)
        },
        "truncated": pyarrow.array([r.truncated for r in results], pyarrow.bool_()),
        "error": pyarrow.array([r.error and readable(r.error) for r in results], pyarrow.string()),
    }
    name = _name(file, start, len(results))
    temporary = folder / f"{name}.{uuid.uuid4().hex[:8]}"
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    try:
        _write(temporary, sink.getvalue().to_pybytes())
        digest = file_sha256(temporary)
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return Shard(file, start, len(results), name, digest)


def read_shard(path: Path) -> Iterator[Result]:
    """The results in the shard at ``path``, in row order; all of it is in memory meanwhile."""
    import pyarrow.parquet

    # Not mapped into memory: a mapped file cannot be removed on Windows.
    table = pyarrow.parquet.read_table(path, memory_map=False)
    *scores, truncated, error = (column.to_pylist() for column in table.columns)
    for row in zip(zip(*scores, strict=True), truncated, error, strict=True):
        yield Result(None, None, row[2]) if row[2] is not None else Result(*row)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
