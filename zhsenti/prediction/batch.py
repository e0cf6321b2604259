"""``--input``: every row of a file scored, with progress while it runs and a summary at its end."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zhsenti.config import InferenceConfig, user_path
from zhsenti.data.faults import Faults
from zhsenti.data.read import ASPECT_NAMES, TEXT_NAMES, Source, open_rows
from zhsenti.data.sniff import is_folder
from zhsenti.errors import ConfigError
from zhsenti.prediction.records import ENDINGS, Record, json_line, predict_rows, questions, record_writer

if TYPE_CHECKING:
    from zhsenti.labels import SentimentTask
    from zhsenti.prediction.records import BatchPredictor


def predict_file(config: InferenceConfig, task: SentimentTask, load: Callable[[], BatchPredictor]) -> None:
    """Score ``config.input`` into ``config.output`` or standard output. ``load`` is called once the file is known good.

    Rows that cannot be scored become error records and are reported. Raises ConfigError, DataError.
    """
    assert config.input is not None
    source = open_rows(user_path(config.input))
    output = None if config.output is None else _output(user_path(config.output), source.path)
    text = source.column(config.text_column, TEXT_NAMES, "文本", "--text_column")
    aspect = None
    if task.has_aspect and config.aspect is None:
        aspect = source.column(config.aspect_column, ASPECT_NAMES, "方面", "--aspect_column 或 --aspect")
    for note in [*source.content.notes, f"文本列 {source.name(text)}"]:
        print(f"  {note}", file=sys.stderr)
    rows = questions(source, text, aspect, config.aspect)
    summary = _Summary(source.path)
    if output is None:
        _score(predict_rows(load(), rows), _print, summary, source)
    else:
        with record_writer(output, task.labels) as write:
            _score(predict_rows(load(), rows), write, summary, source)
    for line in summary.lines():
        print(line, file=sys.stderr)
    if output is not None:
        print(f"结果：{output}", file=sys.stderr)


def _output(path: Path, read: Path) -> Path:
    """Checked before anything is computed. Raises ConfigError."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"不认识的输出类型：{path}", expected="、".join(ENDINGS), todo="改 --output 的后缀。")
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"没有输出文件夹 {path.parent}", todo="先建好它，或改 --output。")
        if path.exists() and (is_folder(path) or path.samefile(read)):
            why = "是文件夹" if path.is_dir() else "就是 --input"
            raise ConfigError(f"--output {path} {why}", todo="换一个文件名。")
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass  # asking for permission is not enough
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(f"不能写入 --output {path}", found=found, todo="换一个位置或名字。") from error
    return path


def _print(record: Record) -> None:
    print(json_line(record), flush=True)


def _score(records: Iterator[Record], write: Callable[[Record], None], summary: _Summary, source: Source) -> None:
    # A bar between records on the same screen would garble both.
    with _progress(source, shown=sys.stderr.isatty() and not (write is _print and sys.stdout.isatty())) as advance:
        for record in records:
            write(record)
            summary.add(record)
            advance(summary.rows)


@contextmanager
def _progress(source: Source, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr: the share of the file read, rows, rows a second, time left."""
    if not shown:
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.fields[rows]:,} 行  {task.fields[rate]:.1f} 行/秒  剩余"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, started = bar.add_task("", total=1.0, rows=0, rate=0.0), time.monotonic()

        def advance(rows: int) -> None:
            if rows % 16 == 0 or rows < 16:
                rate = rows / max(time.monotonic() - started, 1e-9)
                bar.update(task, completed=source.content.share(), rows=rows, rate=rate)

        yield advance


class _Summary:
    """Counts for the lines at the end."""

    def __init__(self, path: Path) -> None:
        self.faults, self.labels, self.rows, self.started = Faults(path), Counter[str](), 0, time.monotonic()
        self.truncated, self.has_lines = 0, False

    def add(self, record: Record) -> None:
        self.rows += 1
        self.has_lines = record.line is not None
        self.truncated += bool(record.truncated)
        if record.error is not None:
            self.faults.add(record.row, record.line, record.error)
        elif record.label is not None:
            self.labels[record.label] += 1

    def lines(self) -> list[str]:
        seconds = time.monotonic() - self.started
        counts = "，".join(f"{label} {count:,}" for label, count in self.labels.most_common())
        rate = self.rows / max(seconds, 1e-9)
        said = [
            f"完成：{self.rows:,} 行，出错 {len(self.faults):,} 行；{counts or '没有预测'}；"
            f"{seconds:.1f} 秒（{rate:.1f} 行/秒）"
        ]
        if self.truncated:
            said.append(f"过长而截去中段：{self.truncated:,} 行（truncated 为 true）")
        if self.faults:
            said.append(f"出错的行（原因在 error 里）：{self.faults.with_places(self.has_lines)}")
        return said
