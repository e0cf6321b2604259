"""``--input``: every row scored, in order, in constant memory; what was done survives a kill."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zhsenti.core.errors import ConfigError, Interrupted
from zhsenti.core.paths import user_path
from zhsenti.data.faults import Faults, where
from zhsenti.data.formats import Row
from zhsenti.data.read import Source, open_rows
from zhsenti.data.sniff import is_folder
from zhsenti.prediction.batch import shards
from zhsenti.prediction.batch.inputs import as_they_come
from zhsenti.prediction.batch.outputs import ENDINGS, EXCEL_ROWS, Write, json_writer, remove_unfinished, row_writer
from zhsenti.prediction.batch.records import Columns, Question, Result, score_window, windows
from zhsenti.prediction.batch.table import Cells, Table
from zhsenti.prediction.config import InferenceConfig

if TYPE_CHECKING:
    from zhsenti.prediction.batch.records import BatchPredictor
    from zhsenti.task import SentimentTask

TELL_EVERY = 30.0  # seconds between two lines where no bar can be drawn
Load = Callable[[], "BatchPredictor"]


def predict_file(config: InferenceConfig, task: SentimentTask, load: Load, model: dict[str, Any] | None = None) -> None:
    """Score ``config.input`` into ``config.output`` or standard output. ``load`` is called once the input is good.

    model  decides the scores besides the rows: an unfinished run goes on only with the same one. Rows that cannot be
    scored carry their error and are reported. Raises ConfigError, DataError.
    """
    assert config.input is not None
    table = Table(config, task)
    output, review = _outputs(config, table.files)
    if output is None or not table.files:
        _stream(config, table, load, output, review)
    else:
        _in_shards(config, table, load, output, review, model or {})


# ── where it goes ─────────────────────────────────────────────────────────────────────────────────────────────────


def _outputs(config: InferenceConfig, files: list[Path]) -> tuple[Path | None, Path | None]:
    """The result's path (None: standard output) and the review's. Raises ConfigError before anything is computed."""
    output = None if config.output in (None, "-") else _output(user_path(str(config.output)), files, "--output")
    review = None
    if config.min_confidence is not None:
        if config.review_output is None and output is None:
            raise ConfigError("结果写到标准输出时，--min_confidence 要有 --review_output", todo="给出复核文件的名字。")
        path = output.with_name(f"{output.stem}.review{output.suffix}") if output else Path()
        named = user_path(config.review_output) if config.review_output else path
        review = _output(named, files, "--review_output")
        if output and named.parent.resolve() / named.name == output.parent.resolve() / output.name:
            raise ConfigError("--review_output 就是 --output", todo="换一个文件名。")
    elif config.review_output is not None:
        raise ConfigError("--review_output 要和 --min_confidence 一起用", todo="加上 --min_confidence 0.9 之类的阈值。")
    if config.engine == "ray" and (output is None or not files):
        raise ConfigError("--engine ray 要从文件读、写到文件", todo="给出 --input 文件和 --output 文件。")
    return output, review


def _output(path: Path, files: list[Path], flag: str) -> Path:
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"不认识的输出类型：{path}", expected="、".join(ENDINGS), todo=f"改 {flag} 的后缀。")
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"没有输出文件夹 {path.parent}", todo=f"先建好它，或改 {flag}。")
        if path.exists() and (is_folder(path) or any(path.samefile(file) for file in files)):
            why = "是文件夹" if path.is_dir() else "就是 --input"
            raise ConfigError(f"{flag} {path} {why}", todo="换一个文件名。")
        if len(files) > 1 and any(path.parent.samefile(file.parent) for file in files):
            raise ConfigError(f"{flag} {path} 在输入的文件夹里", todo="写到别处，免得下次把结果当输入。")
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass  # asking for permission is not enough
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(f"不能写入 {flag} {path}", found=found, todo="换一个位置或名字。") from error
    return path


class _Sink:
    """Rows and their results into the result, the review and the summary."""

    def __init__(
        self, config: InferenceConfig, table: Table, output: Path | None, review: Path | None, stack: ExitStack
    ) -> None:
        self.table, self.limit, self.summary = table, config.min_confidence, _Summary(table.labels)
        self.changed = Counter[str]()
        schema = table.schema()

        def into(path: Path | None) -> Write:
            if path is None:
                return json_writer(sys.stdout, table.added)
            return stack.enter_context(row_writer(path, table.original, table.added, self.changed, schema))

        self.write, self.own = into(output), output is None or output.suffix.lower() == ".jsonl"
        self.review = into(review) if review else None
        self.review_own = bool(review and review.suffix.lower() == ".jsonl")

    def put(self, cells: Cells, path: Path, row: Row, result: Result) -> None:
        if result.scores is None:
            error = f"{where(row.number, row.line)}{result.error}" if row.error else result.error
            found: list[Any] = [*[None] * (3 + len(self.table.labels)), error]
        else:
            best = max(range(len(result.scores)), key=result.scores.__getitem__)
            confidence = result.scores[best]
            found = [self.table.labels[best], confidence, *result.scores, result.truncated, None]
        names, own = cells(row, self.own)
        self.write(names, own, found)
        for_review = self.review is not None and (found[0] is None or found[1] < (self.limit or 0.0))
        if for_review and self.review:
            names, own = cells(row, self.review_own)
            self.review(names, own, found)
        self.summary.add(path, row, result, found, for_review)


# ── two ways through ──────────────────────────────────────────────────────────────────────────────────────────────


def _stream(config: InferenceConfig, table: Table, load: Load, output: Path | None, review: Path | None) -> None:
    """From a pipe, or into one: window by window, as rows come."""
    predictor = load()
    with ExitStack() as stack:
        sink = _Sink(config, table, output, review, stack)
        for source in table.sources():
            keys, cells, held = table.keys(source), table.cells(source), deque[Row]()

            def questions(source: Source, keys: Columns, held: deque[Row]) -> Iterator[Question | None]:
                for row in as_they_come(source.rows) if not table.files else source.rows:
                    if row is not None:
                        held.append(row)
                    yield row and keys.question(source, row)

            for window in windows(questions(source, keys, held)):
                for result in score_window(predictor, window):
                    sink.put(cells, source.path, held.popleft(), result)
                if output is None:
                    sys.stdout.flush()
    _report(sink, output, review)


def _in_shards(
    config: InferenceConfig, table: Table, load: Load, output: Path, review: Path | None, model: dict[str, Any]
) -> None:
    total = sum(1 for source in table.sources() for _ in source.rows)
    if output.suffix.lower() == ".xlsx" and total > EXCEL_ROWS:
        raise ConfigError(
            f"{total:,} 行放不进一张 Excel 表",
            expected=f"不超过 {EXCEL_ROWS:,} 行",
            todo="--output 改用 .csv 或 .parquet。",
        )
    files = tuple(path.absolute() for path in table.files)  # Ray's workers stand in another folder
    job = shards.Job(files, table.text, table.aspect, table.constant, tuple(table.labels), model)
    with shards.open_shards(job, output.absolute()) as work:
        remove_unfinished(output)
        if review and config.review_output is None:  # another one may be a second job's, too
            remove_unfinished(review)
        if work.rows:
            print(f"  接着上次：已有 {work.rows:,} 行，共 {total:,} 行", file=sys.stderr)
        with _progress(work.rows, total) as advance:

            def ready() -> BatchPredictor:
                predictor = load()
                predictor.on_progress = advance  # type: ignore[attr-defined]
                return predictor

            try:
                for line in _engine(config, job, work, load if config.engine == "ray" else ready):
                    work.append(line)
                    advance(0, work.rows)
            except KeyboardInterrupt as stop:
                print(f"\n已停下，{work.rows:,} 行的结果留着：同一条命令接着算。", file=sys.stderr)
                raise Interrupted(2) from stop
        with ExitStack() as stack:
            sink = _Sink(config, table, output, review, stack)
            for row in _finished(job, table, work):
                sink.put(*row)
            table.check_unchanged()
        work.remove()
    _report(sink, output, review)


def _engine(config: InferenceConfig, job: shards.Job, work: shards.Shards, load: Load) -> Iterator[dict[str, Any]]:
    if config.engine == "ray":
        from zhsenti.prediction.batch import ray_engine

        return ray_engine.score(job, work, load, config.ray_address, config.num_actors)
    return shards.score(job, work, load)


class _Done(NamedTuple):
    cells: Cells
    path: Path
    row: Row
    result: Result


def _finished(job: shards.Job, table: Table, work: shards.Shards) -> Iterator[_Done]:
    for file, path in enumerate(job.files):
        source = open_rows(path)
        cells = table.cells(source)
        for row, result in zip_longest(source.rows, work.results(file)):
            if row is None or result is None:
                table.check_unchanged()
            assert row is not None
            assert result is not None
            yield _Done(cells, path, row, result)


# ── what the user sees ────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _progress(before: int, total: int) -> Iterator[Callable[..., None]]:
    """``advance(rows)``, or ``advance(0, rows in all)``: a bar on a terminal's stderr, else a line now and then.

    The rate is that of this run: rows that were there ``before`` took no time.
    """
    done, started, told = before, time.monotonic(), time.monotonic()
    with ExitStack() as stack:
        bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            text = TextColumn("{task.completed:,.0f}/{task.total:,.0f} 行  {task.fields[speed]}")
            bar = stack.enter_context(Progress(BarColumn(), text, console=Console(stderr=True), transient=True))
            task = bar.add_task("", total=total, completed=before, speed="")

        def advance(rows: int, whole: int | None = None) -> None:
            nonlocal done, told
            done = max(done, whole) if whole is not None else min(done + rows, total)
            now = time.monotonic()
            rate = (done - before) / max(now - started, 1e-9)
            left = (total - done) / rate if rate else 0.0
            speed = f"{rate:,.1f} 行/秒  剩余 {_duration(left)}" if rate else ""
            if bar:
                bar.update(task, completed=done, speed=speed)
            elif now - told >= TELL_EVERY:
                told = now
                print(f"  {done:,}/{total:,} 行  {speed}", file=sys.stderr, flush=True)

        yield advance


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} 小时 {minutes} 分" if hours else f"{minutes} 分 {seconds} 秒" if minutes else f"{seconds} 秒"


class _Summary:
    """Counts for the lines at the end."""

    def __init__(self, labels: Any) -> None:
        self.labels, self.faults = Counter[str](dict.fromkeys(labels, 0)), dict[Path, Faults]()
        self.rows = self.truncated = self.review = 0
        self.confidence, self.numbered = 0.0, dict[Path, bool]()

    def add(self, path: Path, row: Row, result: Result, found: list[Any], for_review: bool) -> None:
        self.rows += 1
        self.review += for_review
        self.truncated += bool(result.truncated)
        if result.scores is None:
            self.faults.setdefault(path, Faults(path)).add(row.number, row.line, result.error or "")
            self.numbered[path] = row.line is not None
        else:
            self.labels[found[0]] += 1
            self.confidence += found[1]

    def lines(self) -> list[str]:
        errors = sum(len(faults) for faults in self.faults.values())
        scored = self.rows - errors
        shares = "，".join(
            f"{label} {count:,}（{count / scored:.1%}）" for label, count in self.labels.most_common() if count
        )
        mean = f"；平均置信度 {self.confidence / scored:.3f}" if scored else ""
        said = [f"完成：{self.rows:,} 行，出错 {errors:,} 行；{shares or '没有预测'}{mean}"]
        if self.truncated:
            said.append(f"过长而截去中段：{self.truncated:,} 行（truncated 为真）")
        for path, faults in self.faults.items():
            of = f"{path.name} " if len(self.faults) > 1 else ""
            said.append(f"出错的行（原因在 error 列）：{of}{faults.with_places(self.numbered[path])}")
        return said


def _report(sink: _Sink, output: Path | None, review: Path | None) -> None:
    lines = sink.summary.lines()
    lines += [f"{count:,} {what}" for what, count in sink.changed.items() if count]
    if left_out := sink.table.left_out:
        keys = "、".join(f"{key}（{count:,} 行）" for key, count in left_out.most_common(5))
        lines.append(f"第一个对象没有、表格里放不下的键有 {len(left_out):,} 个：{keys}；要全就用 .jsonl")
    if review:
        lines.append(f"置信度低于 {sink.limit:g} 或出错、要人复核的：{sink.summary.review:,} 行，另存 {review}")
    if output:
        lines.append(f"结果：{output}")
    seconds = time.monotonic() - sink.table.began
    lines[0] += f"；共 {_duration(seconds)}"
    for line in lines:
        print(line, file=sys.stderr)
