"""``--input``: every row scored, in order, in constant memory; what was done survives a kill.

An input is read twice: once whole, for its encoding and its hash, and once row by row. Row by row means one loop over
its windows: one that a finished shard covers takes its results from there, any other is scored and kept in the next
shard; each row goes straight into the unfinished output. So what a kill costs is at most one shard, and what follows a
kill is the same loop again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from zhsenti.core.console import Bar, Progress, say
from zhsenti.core.errors import ConfigError, Interrupted, ModelError
from zhsenti.data.read import Source
from zhsenti.prediction.batch.destinations import Destinations, find_destinations, remove_unfinished
from zhsenti.prediction.batch.outputs import EXCEL_ROWS
from zhsenti.prediction.batch.pipe import as_they_come
from zhsenti.prediction.batch.plan import Job, Json
from zhsenti.prediction.batch.shards import Shards, ShardWriter, open_shards
from zhsenti.prediction.batch.sink import Sink
from zhsenti.prediction.batch.table import Table
from zhsenti.prediction.batch.windows import BatchPredictor, Window, score_window, windows_of_rows
from zhsenti.prediction.config import PredictConfig

if TYPE_CHECKING:
    from zhsenti.task import SentimentTask

Load = Callable[[], BatchPredictor]


class _MoreKeys(Exception):
    """A row of JSON has a key that changes the names of columns."""


def predict_file(config: PredictConfig, task: SentimentTask, load: Load, model: Json | None = None) -> None:
    """Score ``config.input`` into ``config.output`` or standard output.

    Rows that cannot be scored carry their error and are reported.

    Args:
        config: The flags.
        task: What the model is asked.
        load: Makes the predictor. Called once; where the output is a file, only when a row is to be scored. On Ray each
            actor calls it.
        model: JSON; decides the scores besides the rows. An unfinished run goes on only with the same one.

    Raises:
        ConfigError: The flags do not go together, or an unfinished run is another one's.
        DataError: The input cannot be read, or changed meanwhile.
        ModelError: The model cannot go on: no memory, a lost GPU; what is scored is kept, and that has been said.
        Interrupted: Ctrl-C; what is scored is kept, and that has been said.
    """
    table = Table(config, task)
    to = find_destinations(config, table.files)
    if to.output is None or not table.files:
        sink = _stream(config, table, to, load)
    else:
        sink = _in_shards(config, table, to, load, model or {})
    sink.report()


def _stream(config: PredictConfig, table: Table, to: Destinations, load: Load) -> Sink:
    """From a pipe, or into one: window by window, as rows come."""
    predictor = load()
    with ExitStack() as stack:
        sink = Sink(config, table, to, stack)
        for source in table.sources():
            cells = table.cells(source)
            rows_or_none = source.rows if table.files else as_they_come(source.rows)
            for rows, questions in windows_of_rows(rows_or_none, source, table.columns(source)):
                for row, result in zip(rows, score_window(predictor, questions), strict=True):
                    sink.put(cells, source.path, row, result)
                if to.output is None:
                    sys.stdout.flush()
    return sink


def _in_shards(config: PredictConfig, table: Table, to: Destinations, load: Load, model: Json) -> Sink:
    """From files into a file."""
    assert to.output is not None
    if to.output.suffix.lower() == ".xlsx":
        _check_fits_excel(table)
    job = Job(tuple(table.files), table.text, table.aspect, table.constant, tuple(table.labels), model)
    with open_shards(job, to.output.absolute()) as work:
        remove_unfinished(to.output)
        if to.review and config.review_output is None:  # another one may be a second job's, too
            remove_unfinished(to.review)
        total = f"共{'' if table.exact else '约'} {table.most:,} 行"
        if work.rows:
            say(f"接着上次：已有 {work.rows:,} 行，{total}", indent=1)
        try:
            with Progress(transient=True) as progress:
                if config.engine == "ray":
                    _score_on_ray(config, table, work, load, _add_bar(progress, table, total))
                load_once = cache(load)
                while True:
                    batch = _Batch(config, table, to, work, load_once, _Meter(_add_bar(progress, table, total), table))
                    try:
                        sink = _through(batch)
                        break
                    except _MoreKeys:
                        batch.meter.bar.remove()
                        table.read_every_key()
        except KeyboardInterrupt as stop:
            say(f"\n已停下，{work.rows:,} 行的结果留着：同一条命令接着算。")
            raise Interrupted(2) from stop
        except ModelError:  # the memory, the GPU or the base: the rows are not to blame
            if work.rows:
                say(f"停在半路，{work.rows:,} 行的结果留着：同一条命令接着算。")
            raise
        work.remove()
    return sink


def _check_fits_excel(table: Table) -> None:
    """Raises ConfigError where there are too many rows; they are counted only where there may be."""
    if table.most > EXCEL_ROWS and (count := table.count()) > EXCEL_ROWS:
        raise ConfigError(
            f"{count:,} 行放不进一张 Excel 表",
            expected=f"不超过 {EXCEL_ROWS:,} 行",
            todo="--output 改用 .csv 或 .parquet。",
        )


def _score_on_ray(config: PredictConfig, table: Table, work: Shards, load: Load, bar: Bar) -> None:
    """Have every window in a shard, written by Ray's workers in any order."""
    from zhsenti.prediction.batch import ray_engine

    def move() -> None:
        bar.set(work.rows, share=None if table.exact else work.rows / table.most)

    move()
    bar.begin()  # what was there before took no time
    for shard in ray_engine.score(work, load, config.ray_address, config.num_actors):
        work.append(shard)
        move()
    bar.remove()


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Batch:
    """What the loop works with: the inputs, where results go, the shards, the model and the bar."""

    config: PredictConfig
    table: Table
    to: Destinations
    work: Shards
    load: Load
    meter: _Meter


def _through(batch: _Batch) -> Sink:
    """All rows in order into the outputs, which appear at the end. Whatever ends it, what is scored is kept."""
    writer = ShardWriter(batch.work)
    try:
        with ExitStack() as stack:
            sink = Sink(batch.config, batch.table, batch.to, stack)
            try:
                _score_rows(batch, writer, sink)
            except (KeyboardInterrupt, Exception):
                with suppress(OSError):
                    writer.flush()
                raise
    except (KeyboardInterrupt, Exception):
        writer.flush()  # again: where the disk was full, the unfinished output has gone now
        raise
    return sink


def _score_rows(batch: _Batch, writer: ShardWriter, sink: Sink) -> None:
    table, meter = batch.table, batch.meter
    predictor: BatchPredictor | None = None
    for file, source in enumerate(table.sources()):
        cells, finished, start = table.cells(source), batch.work.of_input(file), 0
        for rows, questions in windows_of_rows(source.rows, source, table.columns(source)):
            if table.lacks(rows, tabular=batch.to.tabular):
                raise _MoreKeys
            meter.begin(file, source, start, len(rows))
            results = finished.take(start, len(rows))
            if results is None:
                if predictor is None:
                    predictor = batch.load()
                    meter.bar.begin()  # loading took time, rows from shards took none
                results = writer.score(Window(file, start, questions), predictor, meter.advance)
            if len(results) != len(rows):
                table.check_unchanged()
            for row, result in zip(rows, results, strict=True):
                sink.put(cells, source.path, row, result)
            start += len(rows)
            meter.end()
    table.check_unchanged()


# ── what the user sees ────────────────────────────────────────────────────────────────────────────────────────────


def _add_bar(progress: Progress, table: Table, total: str) -> Bar:
    """A bar over all rows; where nobody knows how many there are, over how much of the inputs has been read."""
    if table.exact:
        return progress.add("预测", table.most, unit="行")
    return progress.add("预测", None, unit="行", note=total, share=0.0)


class _Meter:
    """Moves a bar through a window: the window has been read when its first text is scored.

    Args:
        bar: The bar.
        table: Knows how much of the inputs has been read.
    """

    def __init__(self, bar: Bar, table: Table) -> None:
        self.bar, self._table = bar, table
        self._rows_before = 0  # in all inputs, before this window
        self._rows = 0  # of this window
        self._share_before = self._share = 0.0  # of the inputs: before this window, with it

    def begin(self, file: int, source: Source, start: int, rows: int) -> None:
        """A window of ``rows`` rows, from row ``start`` of ``source`` on, was read."""
        self._rows = rows
        if not self._table.exact:
            self._share = self._table.share(file, source, start + rows)

    def advance(self, texts: int) -> None:
        """So many more texts of the window are scored."""
        self.bar.advance(texts, share=(self._share - self._share_before) * texts / self._rows)

    def end(self) -> None:
        """All of the window is done."""
        self._rows_before += self._rows
        self._share_before = self._share
        self.bar.set(self._rows_before, share=None if self._table.exact else self._share)
