"""Systems x rows -> log-probabilities. Every chunk is on disk before the next begins, so a killed run goes on.

All stages of an evaluation score through here, so a stage is redone only where its rows or its system changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zhsenti.core.errors import ModelError
from zhsenti.evaluation.baselines import System, rows_digest

if TYPE_CHECKING:
    from rich.progress import Progress

    from zhsenti.data.split import Example

CHUNK = 64  # rows between two writes: what a kill can lose
TELL_EVERY = 30  # seconds between two lines where no bar can be drawn
FORMAT = 1


@dataclass(frozen=True)
class EvalRows:
    """The rows every system is scored on; ``leak_free[i]``: row i's text is in no training row."""

    labels: Sequence[str]
    examples: Sequence[Example]
    leak_free: Sequence[bool]
    has_aspect: bool = False


@dataclass(frozen=True)
class Scored:
    """Log-probabilities (N, C) in row order and what computing them took, cached chunks included."""

    log_probs: np.ndarray
    seconds: float
    prepare_seconds: float
    notes: list[str]


def score_rows(system: System, rows: EvalRows, cache_dir: Path, progress: Progress, what: str = "") -> Scored:
    """Log-probabilities of every row, from the cache where it has them; the rest are computed and appended by chunk.

    ``what`` names the rows in the progress line (Chinese).

    Raises ModelError when the system returns something that is not a finite number.
    """
    from filelock import FileLock

    chunks = _chunks(rows.examples)
    cache = ChunkCache(cache_dir / f"{cache_key(system, rows)}.jsonl", [len(c) for c in chunks], len(rows.labels))
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.path.with_suffix(".lock")):  # a second run on the same rows waits, then reads
        cache.load()
        _fill(cache, chunks, system, rows, (progress, what or system.title))
    result = np.empty((len(rows.examples), len(rows.labels)), dtype=np.float32)
    for i, chunk in enumerate(chunks):
        result[chunk] = cache.chunks[i][0]
    assert cache.header is not None  # _fill wrote it
    seconds = sum(seconds for _, seconds in cache.chunks.values())
    return Scored(result, seconds, cache.header["prepare_seconds"], cache.header["notes"])


def _fill(
    cache: ChunkCache, chunks: list[list[int]], system: System, rows: EvalRows, bar: tuple[Progress, str]
) -> None:
    """Compute and append the chunks that ``cache`` lacks, with a progress bar measured in characters."""
    progress, title = bar
    sizes = [sum(1 + len(rows.examples[r].text) for r in chunk) for chunk in chunks]
    missing = [i for i in range(len(chunks)) if i not in cache.chunks]
    done = sum(sizes) - sum(sizes[i] for i in missing)
    task = progress.add_task(
        title, total=sum(sizes), completed=done, start=False, rows=len(rows.examples), rate="读自缓存"
    )
    if missing or cache.header is None:
        progress.update(task, rate="准备中")
        started = time.perf_counter()
        assert system.prepare is not None  # only a system that does not apply has none
        score, notes = system.prepare()
        if cache.header is None:
            cache.write_header(system, notes, time.perf_counter() - started)
    progress.start_task(task)
    fresh, started, before = 0, time.perf_counter(), done
    told = started
    for i in missing:
        examples = [rows.examples[r] for r in chunks[i]]
        per_row, chunk_started = sizes[i] / len(examples), time.perf_counter()
        log_probs = score(
            [row.text for row in examples],
            [row.aspect for row in examples] if rows.has_aspect else None,
            progress=lambda k, step=per_row: progress.advance(task, k * step),  # type: ignore[misc]
        )
        log_probs = np.asarray(log_probs, dtype=np.float32)
        if not np.isfinite(log_probs).all():
            raise ModelError(f"{system.title} 的分数里有 NaN 或无穷", todo="换一种精度：--precision fp32。")
        cache.append(i, log_probs, time.perf_counter() - chunk_started)
        fresh, done = fresh + len(examples), done + sizes[i]
        now = time.perf_counter()
        rate = f"{fresh / max(now - started, 1e-6):.1f} 条/秒"
        progress.update(task, completed=done, rate=rate)
        if not progress.console.is_terminal and now - told > TELL_EVERY:  # a log shows no moving bar
            told, left = now, (now - started) * (sum(sizes) - done) / (done - before)
            share = f"{done / sum(sizes):.0%}"
            progress.console.print(f"{title}：{share}  {rate}  剩余约 {left / 60:.1f} 分钟", markup=False)
    progress.stop_task(task)


def cache_key(system: System, rows: EvalRows) -> str:
    """SHA-256 of what decides the scores: the system's identity and the rows' texts; true labels have no part in it."""
    parts = [FORMAT, CHUNK, system.identity, list(rows.labels), rows.has_aspect, rows_digest(rows.examples)]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _chunks(rows: Sequence[Example]) -> list[list[int]]:
    """Row numbers longest first, so that a chunk's texts are of like length and padding is small."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].text))
    return [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]


class ChunkCache:
    """Append-only JSON lines: a header, then one line a chunk. What a kill tore off the end is cut away on load."""

    def __init__(self, path: Path, sizes: list[int], classes: int) -> None:
        self.path, self._shapes = path, [(size, classes) for size in sizes]
        self.header: dict[str, Any] | None = None
        self.chunks: dict[int, tuple[np.ndarray, float]] = {}

    def load(self) -> None:
        if not self.path.exists():
            return
        raw, good = self.path.read_bytes(), 0
        for line in raw.splitlines(keepends=True):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        if good < len(raw):
            self.header, self.chunks = None, {}
            os.truncate(self.path, good)
            self.load()

    def _take(self, record: dict[str, Any]) -> None:
        if self.header is None:
            self.header = {
                "notes": [str(note) for note in record["notes"]],
                "prepare_seconds": record["prepare_seconds"],
            }
            return
        index, log_probs = int(record["chunk"]), np.array(record["log_probs"], dtype=np.float32)
        if index < 0 or log_probs.shape != self._shapes[index]:
            raise ValueError("chunk does not fit")
        self.chunks[index] = (log_probs, float(record["seconds"]))

    def write_header(self, system: System, notes: list[str], seconds: float) -> None:
        self._write(
            {"system": system.name, "identity": system.identity, "notes": notes, "prepare_seconds": round(seconds, 3)}
        )

    def append(self, index: int, log_probs: np.ndarray, seconds: float) -> None:
        rows = [[float(value) for value in row] for row in log_probs]  # float32 is exact in JSON's doubles
        self._write({"chunk": index, "seconds": round(seconds, 6), "log_probs": rows})

    def _write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._take(record)


def score_progress() -> Progress:
    """One line a pass over rows: bar, share, rows, speed, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} 条  {task.fields[rate]}"),
        TextColumn("剩余"),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
    )
