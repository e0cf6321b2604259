"""A job in pieces that survive: results on disk shard by shard, each whole or not there, in any order.

The work folder ``.<output name>.parts`` holds ``manifest.jsonl`` and the shards it names. The manifest's first line is
the job's identity; every other line is one finished shard::

    {"file": 0, "start": 512, "rows": 1024, "name": "00000-000000000512-1024.parquet", "sha256": "…"}

``file`` counts the job's inputs and ``start`` that input's data rows, from 0. A shard is one or more whole consecutive
windows (``records.windows`` from an input's first row), so results depend neither on where a run was killed nor on
which engine ran. An engine is a function ``(job, shards, load) -> Iterator[line]``: it scores ``shards.pending()``,
writes each result with ``write_shard`` and yields the line, which the driver appends. Shards hold results only; the
rows themselves are read again from the input at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zhsenti.core.errors import ConfigError
from zhsenti.core.files import hold, sync_folder
from zhsenti.core.hashing import file_sha256
from zhsenti.data.read import ASPECT_NAMES, TEXT_NAMES, Source, open_rows
from zhsenti.prediction.batch import records
from zhsenti.prediction.batch.records import BatchPredictor, Columns, Question, Result, score_window, windows

MANIFEST, LOCK, FORMAT = "manifest.jsonl", ".lock", 1
SHARD_ROWS = 8192
SHARD_SECONDS = 20.0
_NAMES = {"inputs": "输入文件", "model": "模型", "columns": "文本列、方面列或 --aspect", "labels": "标签"}


@dataclass(frozen=True)
class Job:
    """What is scored, picklable. files  in order;  text_column, aspect_column  their names, None where there is none
    model  what decides the scores beside the rows (``command.model_identity``).
    """

    files: tuple[Path, ...]
    text_column: str
    aspect_column: str | None
    aspect: str | None
    labels: tuple[str, ...]
    model: dict[str, Any]

    def open(self, file: int) -> tuple[Source, Columns]:
        """Input number ``file`` from its beginning. Raises DataError."""
        source = open_rows(self.files[file])
        return source, Columns(
            source.column(self.text_column, TEXT_NAMES, "文本", "--text_column"),
            self.aspect_column and source.column(self.aspect_column, ASPECT_NAMES, "方面", "--aspect_column"),
            self.aspect,
        )

    def windows(self, file: int) -> Iterator[Window]:
        """All of an input's windows, in order."""
        source, columns = self.open(file)
        start = 0
        for questions in windows(columns.question(source, row) for row in source.rows):
            yield Window(file, start, questions)
            start += len(questions)

    def identity(self) -> dict[str, Any]:
        """JSON. Two runs with the same one give the same results."""
        return {
            "format": FORMAT,
            "window": [records.WINDOW_ROWS, records.WINDOW_CHARACTERS],
            "inputs": [[path.name, path.stat().st_size, file_sha256(path)] for path in self.files],
            "model": self.model,
            "columns": [self.text_column, self.aspect_column, self.aspect],
            "labels": list(self.labels),
        }


class Window(NamedTuple):
    """``file`` counts inputs, ``start`` that input's data rows, both from 0."""

    file: int
    start: int
    questions: list[Question]


# ── the work folder ───────────────────────────────────────────────────────────────────────────────────────────────


class Shards:
    """The finished shards of ``job`` in ``folder``; only ``open_shards`` makes one.

    done  (file, start) -> manifest line, of shards that are there and unchanged
    """

    def __init__(self, job: Job, folder: Path, done: dict[tuple[int, int], dict[str, Any]], size: int) -> None:
        self.job, self.folder, self.done, self._size = job, folder, done, size

    @property
    def rows(self) -> int:
        return sum(line["rows"] for line in self.done.values())

    def pending(self, files: Iterable[int] | None = None) -> Iterator[Window]:
        """Windows of all inputs, or of ``files``, that no shard holds; in order, read as they are asked for."""
        for file in range(len(self.job.files)) if files is None else files:
            ends = {start: start + line["rows"] for (of, start), line in self.done.items() if of == file}
            until = 0
            for window in self.job.windows(file):
                until = max(until, ends.get(window.start, 0))
                if window.start >= until:
                    yield window

    def append(self, line: dict[str, Any]) -> None:
        """A shard counts from here on. Raises OSError; then it does not count."""
        data = (json.dumps(line) + "\n").encode()
        with (self.folder / MANIFEST).open("r+b") as stream:
            stream.truncate(self._size)  # whatever a failed attempt left
            stream.seek(self._size)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        self._size += len(data)
        self.done[line["file"], line["start"]] = line

    def results(self, file: int) -> Iterator[Result]:
        """An input's results in row order, one shard in memory. They end where a shard is missing."""
        import pyarrow.parquet

        next_row = 0
        for (_, start), line in sorted(item for item in self.done.items() if item[0][0] == file):
            if start != next_row:
                break
            next_row += line["rows"]
            table = pyarrow.parquet.read_table(self.folder / line["name"], memory_map=False)
            *scores, truncated, error = (column.to_pylist() for column in table.columns)
            for row in zip(zip(*scores, strict=True), truncated, error, strict=True):
                yield Result(None, None, row[2]) if row[2] is not None else Result(*row)

    def remove(self) -> None:
        """The manifest first: what is left of a folder without one is rubbish to the next run."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def open_shards(job: Job, output: Path) -> Iterator[Shards]:
    """The work folder beside ``output``, held for this run: a new one, or an unfinished one of the same job.

    Raises ConfigError when another run holds it or it belongs to another job.
    """
    folder = output.with_name(f".{output.name}.parts")
    with hold(folder / LOCK, "预测", output, "--output"):
        identity = job.identity()
        manifest = folder / MANIFEST
        lines = _whole_lines(manifest)
        if not lines:
            _empty(folder)
            first = (json.dumps(identity) + "\n").encode()  # names of files may be what UTF-8 cannot hold
            temporary = folder / f"{MANIFEST}.new"
            _write(temporary, first)
            temporary.replace(manifest)
            sync_folder(folder)
            lines = [first]
        _same_job(json.loads(lines[0]), json.loads(json.dumps(identity)), folder)
        shards = Shards(job, folder, _finished(folder, lines[1:]), sum(map(len, lines)))
        try:
            yield shards
        finally:
            if not shards.done:  # nothing to go on from
                shards.remove()


def _whole_lines(manifest: Path) -> list[bytes]:
    """A last line that a kill tore off does not count, nor does what follows one that is no JSON object."""
    lines: list[bytes] = []
    try:
        data = manifest.read_bytes()
    except FileNotFoundError:
        return lines
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or not isinstance(json.loads(line), dict):
                break
        except ValueError:
            break
        lines.append(line)
    return lines


def _same_job(there: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    other = [key for key in wanted if there.get(key) != wanted[key]]
    if other:
        names = "、".join(dict.fromkeys(_NAMES.get(key, "zhsenti 的版本") for key in other))
        raise ConfigError(
            "同名的输出有一次没有做完的预测，但不是同一件事",
            expected="输入、模型和设置都与那次相同，才能接着做",
            found=f"不同的是：{names}",
            todo=f"不要那次的结果就删掉文件夹 {folder}；要就换一个 --output。",
        )


def _finished(folder: Path, lines: Iterable[bytes]) -> dict[tuple[int, int], dict[str, Any]]:
    """Shards that are whole; one that is missing, changed, or overlaps another is scored again."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for raw in lines:
        line = json.loads(raw)
        name = line.get("name")
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            continue
        if file_sha256(folder / name) == line.get("sha256"):
            found[line["file"], line["start"]] = line
    kept: dict[tuple[int, int], dict[str, Any]] = {}
    reached = (0, 0)
    for key in sorted(found):
        if key >= reached:
            kept[key], reached = found[key], (key[0], key[1] + found[key]["rows"])
    return kept


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink()


# ── shards ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_shard(
    folder: Path, labels: Sequence[str], file: int, start: int, results: Sequence[Result]
) -> dict[str, Any]:
    """Results of consecutive whole windows as one file that appears whole; returns its manifest line.

    Raises OSError.
    """
    import pyarrow
    import pyarrow.parquet

    # Labels are data and may repeat a name of ours, so columns go by position.
    columns = {
        **{
            f"score_{index}": pyarrow.array([r.scores and r.scores[index] for r in results], pyarrow.float64())
            for index in range(len(labels))
        },
        "truncated": pyarrow.array([r.truncated for r in results], pyarrow.bool_()),
        "error": pyarrow.array([_valid(r.error) for r in results], pyarrow.string()),
    }
    name = f"{file:05}-{start:012}-{len(results)}.parquet"
    temporary = folder / f"{name}.{uuid.uuid4().hex[:8]}"
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    try:
        _write(temporary, data)
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return {
        "file": file,
        "start": start,
        "rows": len(results),
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _valid(error: str | None) -> str | None:
    return None if error is None else error.encode("utf-8", "replace").decode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def score(job: Job, shards: Shards, load: Callable[[], BatchPredictor]) -> Iterator[dict[str, Any]]:
    """The local engine: manifest lines of shards that are written, one in SHARD_SECONDS or SHARD_ROWS."""
    predictor: BatchPredictor | None = None
    file, start, held, since = 0, 0, list[Result](), time.monotonic()

    def flush() -> Iterator[dict[str, Any]]:
        nonlocal held
        if held:
            line = write_shard(shards.folder, job.labels, file, start, held)
            held = []
            yield line

    try:
        for window in shards.pending():
            predictor = predictor or load()
            if (window.file, window.start) != (file, start + len(held)):
                yield from flush()
            if not held:
                file, start, since = window.file, window.start, time.monotonic()
            held += score_window(predictor, window.questions)
            if len(held) >= SHARD_ROWS or time.monotonic() - since >= SHARD_SECONDS:
                yield from flush()
        yield from flush()
    except (KeyboardInterrupt, Exception):
        yield from flush()  # what is scored need not be scored again
        raise
