"""A job in pieces that survive: results on disk shard by shard, each whole or not there, in any order.

The work folder ``.<output name>.parts`` holds ``manifest.jsonl`` and the shards it names. The manifest's first line is
the job's identity; every other line is one finished shard::

    {"file": 0, "start": 512, "rows": 1024, "name": "00000-000000000512-1024.parquet", "sha256": "…"}

``file`` counts the job's inputs and ``start`` that input's data rows, from 0. A shard is one or more whole consecutive
windows (``windows.windows`` from an input's first row), so results depend neither on where a run was killed nor on
who scored what: ``ShardWriter`` here, in order, or Ray's workers, in any order. Shards hold results only; the rows
themselves are in the input.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from zhsenti.core.errors import ConfigError
from zhsenti.core.files import hold
from zhsenti.core.hashing import file_sha256
from zhsenti.core.journal import Journal
from zhsenti.prediction.batch.plan import Job, Json
from zhsenti.prediction.batch.shard_files import Shard, is_shard_name, read_shard, shard_of, write_shard
from zhsenti.prediction.batch.windows import BatchPredictor, Progress, Result, Window, score_window

MANIFEST, LOCK = "manifest.jsonl", ".lock"
SHARD_ROWS = 8192
SHARD_SECONDS = 20.0
_NAMES = {"inputs": "输入文件", "model": "模型", "columns": "文本列、方面列或 --aspect", "labels": "标签"}


class Shards:
    """The work folder of one job and the shards in it that are whole; only ``open_shards`` makes one.

    Attributes:
        job: Whose results they hold.
        folder: The work folder.
        done: The shards, by their places.
    """

    def __init__(self, job: Job, folder: Path, done: Iterable[Shard]) -> None:
        self.job, self.folder = job, folder
        self.done = {shard.place: shard for shard in done}
        self._journal = Journal(folder / MANIFEST, ascii=True)

    @property
    def rows(self) -> int:
        """How many rows have their results in a shard."""
        return sum(shard.rows for shard in self.done.values())

    def append(self, shard: Shard) -> None:
        """Have a written shard count from here on.

        Raises:
            OSError: The manifest could not be written; then the shard does not count.
        """
        self._journal.append(dataclasses.asdict(shard))
        self.done[shard.place] = shard

    def of_input(self, file: int) -> InputResults:
        """The results of input number ``file`` that are there now."""
        return InputResults(self.folder, [shard for shard in self.done.values() if shard.file == file])

    def pending(self, file: int) -> Iterator[Window]:
        """Windows of input number ``file`` that no shard holds, in order, read as they are asked for.

        Raises:
            DataError: The input cannot be read.
        """
        results = self.of_input(file)
        return (window for window in self.job.windows(file) if not results.hold(window.start))

    def remove(self) -> None:
        """Remove the folder, the manifest first: what is left of a folder without one is rubbish to the next run."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        _empty(self.folder)
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # something of somebody else's is in it: it stays
            self.folder.rmdir()


class InputResults:
    """One input's finished results, asked for window by window from its first row on; one shard in memory.

    Args:
        folder: The work folder.
        shards: Those of the input.
    """

    def __init__(self, folder: Path, shards: Iterable[Shard]) -> None:
        self._folder = folder
        self._shards = {shard.start: shard for shard in shards}
        self._shard: Shard | None = None  # the last one that a window was in
        self._results: Iterator[Result] | None = None  # its results that were not taken yet

    def hold(self, start: int) -> bool:
        """Whether the window that begins at data row ``start`` is in a shard: a shard holds whole windows."""
        if start in self._shards:
            self._shard, self._results = self._shards[start], None
        return self._shard is not None and start < self._shard.end

    def take(self, start: int, rows: int) -> list[Result] | None:
        """The results of a window of ``rows`` rows, None where no shard holds it; fewer where the shard ends early."""
        if not self.hold(start) or self._shard is None:
            return None
        if self._results is None:
            self._results = read_shard(self._folder / self._shard.name)
        return list(islice(self._results, rows))


# ── the work folder ───────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def open_shards(job: Job, output: Path) -> Iterator[Shards]:
    """The work folder beside ``output``, held for this run: a new one, or an unfinished one of the same job.

    Raises:
        ConfigError: Another run holds it, or it belongs to another job.
        OSError: An input cannot be read, or the folder not written.
    """
    folder = output.with_name(f".{output.name}.parts")
    _own(folder)
    with hold(folder / LOCK, "预测", output, "--output"):
        identity = job.identity()
        lines = Journal(folder / MANIFEST, ascii=True).read()
        if not lines:
            _empty(folder)
            Journal(folder / MANIFEST, ascii=True).append(identity)
            lines = [identity]
        _refuse_another(lines[0], json.loads(json.dumps(identity)), folder)
        shards = Shards(job, folder, _whole(folder, lines[1:]))
        try:
            yield shards
        finally:
            if not shards.done:  # nothing to go on from
                shards.remove()


def _refuse_another(there: Json, wanted: Json, folder: Path) -> None:
    differing = [key for key in wanted if json.loads(json.dumps(there.get(key))) != wanted[key]]
    if differing:
        names = "、".join(dict.fromkeys(_NAMES.get(key, "zhsenti 的版本") for key in differing))
        raise ConfigError(
            "同名的输出有一次没有做完的预测，但不是同一件事",
            expected="输入、模型和设置都与那次相同，才能接着做",
            found=f"不同的是：{names}",
            todo=f"不要那次的结果就删掉文件夹 {folder}；要就换一个 --output。",
        )


def _whole(folder: Path, lines: Iterable[Json]) -> list[Shard]:
    """The manifest's shards that are there as they were written; one that overlaps another does not count.

    A hash shows damage, not who wrote a file: that nobody else could is what ``_own`` looks at.
    """
    there: dict[tuple[int, int], Shard] = {}
    for line in lines:
        shard = shard_of(line)
        if shard and (folder / shard.name).is_file() and file_sha256(folder / shard.name) == shard.sha256:
            there[shard.place] = shard
    kept: list[Shard] = []
    for _, shard in sorted(there.items()):
        if not kept or shard.place >= (kept[-1].file, kept[-1].end):
            kept.append(shard)
    return kept


def _own(folder: Path) -> None:
    """Make the work folder for this user alone; one that is there must be this user's, or its shards are anybody's.

    Raises:
        ConfigError: It is a link, no folder, another user's, or others may write to it.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        found = "符号链接" if stat.S_ISLNK(about.st_mode) else "文件"
    elif hasattr(os, "geteuid") and about.st_uid != os.geteuid():
        found = "别的用户的文件夹"
    elif os.name == "posix" and about.st_mode & 0o022:
        found = "别的用户也能写的文件夹"
    else:
        return
    raise ConfigError(
        f"不能用工作文件夹 {folder}：里面的结果不一定是自己算的",
        expected="自己的、只有自己能写的文件夹，或没有",
        found=found,
        todo="确认不是自己要的就删掉它，或换一个 --output。",
    )


def _empty(folder: Path) -> None:
    """Remove what this module has written into the folder, but for the lock."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == MANIFEST or is_shard_name(path.name):
            path.unlink()


# ── scoring ────────────────────────────────────────────────────────────────────────────────────────────────────────


class ShardWriter:
    """Scores windows and writes their results down, one shard in ``SHARD_SECONDS`` or ``SHARD_ROWS``."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._file = self._start = 0
        self._held: list[Result] = []  # of consecutive windows, from row _start on
        self._since = 0.0

    def score(self, window: Window, predictor: BatchPredictor, progress: Progress | None) -> list[Result]:
        """Score one window, and write a shard if it is time for one.

        Returns:
            One result a row.

        Raises:
            ZhsentiError: As ``score_window`` does.
            OSError: A shard could not be written, or as ``score_window`` does.
        """
        if (window.file, window.start) != (self._file, self._start + len(self._held)):
            self.flush()
        if not self._held:
            self._file, self._start, self._since = window.file, window.start, time.monotonic()
        results = score_window(predictor, window.questions, progress)
        self._held += results
        if len(self._held) >= SHARD_ROWS or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()
        return results

    def flush(self) -> None:
        """Write what is scored and in no shard yet. May be called again after an OSError.

        Raises:
            OSError: It could not be written.
        """
        if self._held:
            job = self._shards.job
            shard = write_shard(self._shards.folder, len(job.labels), self._file, self._start, self._held)
            self._shards.append(shard)
            self._start, self._held = shard.end, []
