"""Systems x rows -> log-probabilities. Every chunk is on disk before the next begins, so a killed run goes on.

All of an evaluation scores through here, so a second run scores only where rows or a system have changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.core.console import Bar, Progress
from zhsenti.core.errors import ModelError
from zhsenti.core.hashing import json_sha256, rows_sha256
from zhsenti.core.journal import Journal, Record
from zhsenti.evaluation.systems import System

if TYPE_CHECKING:
    from zhsenti.data.split import Example

CHUNK = 64  # rows between two writes: what a kill can lose
FORMAT = 2


@dataclass(frozen=True)
class EvalRows:
    """Rows to score.

    Attributes:
        labels: The task's, in order.
        examples: The rows.
        leak_free: For each row whether its text is in no training row.
        has_aspect: Whether scorers are given the rows' aspects.
    """

    labels: Sequence[str]
    examples: Sequence[Example]
    leak_free: Sequence[bool]
    has_aspect: bool = False


@dataclass(frozen=True)
class Scored:
    """What scoring gave and took.

    Attributes:
        log_probs: Class log-probabilities, float32 (N, C) in row order.
        seconds: Of scoring, cached chunks included as they were measured.
        prepare_seconds: Of fitting or loading.
        notes: What preparing said (Chinese).
    """

    log_probs: np.ndarray
    seconds: float
    prepare_seconds: float
    notes: list[str]


def score_rows(system: System, rows: EvalRows, cache_dir: Path, progress: Progress, title: str = "") -> Scored:
    """Log-probabilities of every row, from the cache where it has them; the rest are computed and appended by chunk.

    Args:
        system: What scores.
        rows: What is scored.
        cache_dir: Where the chunks are kept; made where it is missing.
        progress: Gets a bar.
        title: What the bar says (Chinese); empty: the system's title.

    Raises:
        ModelError: The system gave something that is not a finite number.
    """
    from filelock import FileLock

    chunks = _chunks(rows.examples)
    cache = ChunkCache(cache_dir / f"{cache_key(system, rows)}.jsonl", [len(c) for c in chunks], len(rows.labels))
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.path.with_suffix(".lock")):  # a second run on the same rows waits, then reads
        cache.load()
        _fill(cache, chunks, system, rows, progress, title or system.title)
    result = np.empty((len(rows.examples), len(rows.labels)), dtype=np.float32)
    for i, chunk in enumerate(chunks):
        result[chunk] = cache.chunks[i][0]
    assert cache.header is not None  # _fill wrote it
    seconds = sum(seconds for _, seconds in cache.chunks.values())
    return Scored(result, seconds, cache.header.prepare_seconds, cache.header.notes)


def _fill(
    cache: ChunkCache, chunks: list[list[int]], system: System, rows: EvalRows, progress: Progress, title: str
) -> None:
    """Compute and append the chunks that ``cache`` lacks. The bar counts rows; how far it is goes by characters."""
    sizes = [sum(1 + len(rows.examples[r].text) for r in chunk) for chunk in chunks]
    whole = sum(sizes) or 1
    missing = [i for i in range(len(chunks)) if i not in cache.chunks]
    rows_done = sum(len(chunks[i]) for i in cache.chunks)
    done = sum(sizes[i] for i in cache.chunks)
    bar = progress.add(title, len(rows.examples), done=rows_done, share=done / whole, note="读自缓存")
    if missing or cache.header is None:
        bar.note = "准备中"
        started = time.perf_counter()
        assert system.prepare is not None  # only a system that does not apply has none
        score, notes = system.prepare()
        if cache.header is None:
            cache.write_header(system, notes, time.perf_counter() - started)
        bar.note = ""
        bar.begin()
    for i in missing:
        examples = [rows.examples[r] for r in chunks[i]]
        started = time.perf_counter()
        log_probs = score(
            [row.text for row in examples],
            [row.aspect for row in examples] if rows.has_aspect else None,
            progress=_advance(bar, sizes[i] / whole / len(examples)),
        )
        log_probs = np.asarray(log_probs, dtype=np.float32)
        if not np.isfinite(log_probs).all():
            raise ModelError(f"{system.title} 的分数里有 NaN 或无穷", todo="换一种精度：--precision fp32。")
        cache.append(i, log_probs, time.perf_counter() - started)
        rows_done, done = rows_done + len(examples), done + sizes[i]
        bar.set(rows_done, share=done / whole)
    bar.finish()


def _advance(bar: Bar, share: float) -> Callable[[int], None]:
    """Tells ``bar`` of rows that are done, each of which is ``share`` of the work."""

    def advance(rows: int) -> None:
        bar.advance(rows, share=rows * share)

    return advance


def cache_key(system: System, rows: EvalRows) -> str:
    """SHA-256 of what decides the scores: the system's identity and the rows' texts; true labels have no part in it."""
    texts = rows_sha256((row.text, row.aspect) for row in rows.examples)
    return json_sha256([FORMAT, CHUNK, dict(system.identity), list(rows.labels), rows.has_aspect, texts])


def _chunks(rows: Sequence[Example]) -> list[list[int]]:
    """Row numbers longest first, so that a chunk's texts are of like length and cost."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].text))
    return [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]


@dataclass(frozen=True)
class Header:
    """The first line of a cache: what preparing the system said and took."""

    notes: list[str]
    prepare_seconds: float


class ChunkCache:
    """The scores of one system on one set of rows: a journal of a header and one line a chunk.

    Args:
        path: The file; its folder must be there.
        sizes: Rows of each chunk.
        classes: Labels of the task.

    Attributes:
        path: As given.
        header: None until it was read or written.
        chunks: Number of the chunk -> its log-probabilities (rows, classes), and the seconds they took.
    """

    def __init__(self, path: Path, sizes: list[int], classes: int) -> None:
        self.path, self._shapes = path, [(size, classes) for size in sizes]
        self.header: Header | None = None
        self.chunks: dict[int, tuple[np.ndarray, float]] = {}
        self._journal = Journal(path)

    def load(self) -> None:
        """Read what an earlier run has left; anything after the first line that does not fit does not count."""
        self._journal.read(self._take)

    def _take(self, record: Record) -> None:
        if self.header is None:
            self.header = Header([str(note) for note in record["notes"]], float(record["prepare_seconds"]))
            return
        index, log_probs = int(record["chunk"]), np.array(record["log_probs"], dtype=np.float32)
        if index < 0 or log_probs.shape != self._shapes[index]:
            raise ValueError("chunk does not fit")
        self.chunks[index] = (log_probs, float(record["seconds"]))

    def write_header(self, system: System, notes: list[str], seconds: float) -> None:
        """Begin the file; must come before the first chunk."""
        header = {"system": system.name, "identity": dict(system.identity), "notes": notes}
        self._write({**header, "prepare_seconds": round(seconds, 3)})

    def append(self, index: int, log_probs: np.ndarray, seconds: float) -> None:
        """Keep the scores of chunk ``index``, float32 (rows, classes); on the disk when this returns."""
        rows = [[float(value) for value in row] for row in log_probs]  # float32 is exact in JSON's doubles
        self._write({"chunk": index, "seconds": round(seconds, 6), "log_probs": rows})

    def _write(self, record: Record) -> None:
        self._journal.append(record)
        self._take(record)
