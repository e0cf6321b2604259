"""Rows and their results on their way out: into the result, the review file and the summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from zhsenti.core.console import duration, say
from zhsenti.core.flags import typed
from zhsenti.data.faults import Faults, where
from zhsenti.data.formats import Row
from zhsenti.prediction.batch.destinations import Destinations
from zhsenti.prediction.batch.outputs import Write, json_writer, row_writer
from zhsenti.prediction.batch.table import Cells, Table
from zhsenti.prediction.batch.windows import Result
from zhsenti.prediction.config import RAY, PredictConfig


@dataclass(frozen=True)
class _Output:
    """A function that writes a row, and whether a row of JSON keeps the keys it has."""

    write: Write
    own_keys: bool


class Sink:
    """What every scored row goes through.

    Args:
        config: The flags.
        table: The inputs.
        to: Where results go.
        stack: Files are in place when it is left without an error.
    """

    def __init__(self, config: PredictConfig, table: Table, to: Destinations, stack: ExitStack) -> None:
        self._config, self._table, self._to = config, table, to
        self._summary, self._changed = _Summary(table.labels), Counter[str]()
        self._output = self._open(to.output, stack)
        self._review = self._open(to.review, stack) if to.review else None

    def _open(self, path: Path | None, stack: ExitStack) -> _Output:
        table = self._table
        if path is None:
            return _Output(json_writer(sys.stdout, table.added), True)
        write = stack.enter_context(row_writer(path, table.original, table.added, self._changed, table.schema()))
        return _Output(write, path.suffix.lower() == ".jsonl")

    def put(self, cells: Cells, path: Path, row: Row, result: Result) -> None:
        """Write one row.

        Args:
            cells: From the row to what it holds.
            path: Its input.
            row: The row.
            result: What it got.

        Raises:
            OSError: A file cannot be written.
        """
        labels = self._table.labels
        if result.scores is None:
            error = f"{where(row.number, row.line)}{result.error}" if row.error else result.error
            label, confidence = None, 0.0
            added: list[object] = [*[None] * (3 + len(labels)), error]
        else:
            best = max(range(len(result.scores)), key=result.scores.__getitem__)
            label, confidence = labels[best], result.scores[best]
            added = [label, confidence, *result.scores, result.truncated, None]
        names, values = cells(row, self._output.own_keys)
        self._output.write(names, values, added)
        unsure = label is None or confidence < (self._config.min_confidence or 0.0)
        if self._review and unsure:
            names, values = cells(row, self._review.own_keys)
            self._review.write(names, values, added)
        self._summary.add(path, row, result, label, confidence)
        self._summary.review += bool(self._review) and unsure

    def report(self) -> None:
        """Say what became of the rows, where the results are, and what to type next."""
        lines = self._summary.lines()
        lines[0] += f"；共 {duration(time.monotonic() - self._table.began)}"
        lines += [f"{count:,} {what}" for what, count in self._changed.items() if count]
        if left_out := self._table.left_out:
            keys = "、".join(f"{key}（{count:,} 行）" for key, count in left_out.most_common(5))
            lines.append(f"第一个对象没有、表格里放不下的键有 {len(left_out):,} 个：{keys}；要全就用 .jsonl")
        if self._to.review:
            limit, count = self._config.min_confidence, self._summary.review
            lines.append(f"置信度低于 {limit:g} 或出错、要人复核的：{count:,} 行，另存 {self._to.review}")
        if self._to.output:
            lines.append(f"结果：{self._to.output}")
        for line in [*lines, f"下一步：{self._next()}"]:
            say(line)

    def _next(self) -> str:
        config = self._config
        if self._to.review:
            columns = typed(config, "text_column", "aspect_column")
            return f"看一遍 {self._to.review}；改好标签的行可以用来训练：zhsenti train --dataset 文件{columns}"
        called = config.command("input", "text_column", "aspect_column", "aspect", "input_format", "engine", *RAY)
        if self._to.output:
            return f"把没有把握的行挑给人看：{called}{typed(config, 'output')} --min_confidence 0.9"
        return f"把结果存成表格：{called} --output 结果.csv"


class _Summary:
    """Counts for the lines at the end.

    Attributes:
        review: How many rows went into the review file.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels = Counter[str](dict.fromkeys(labels, 0))
        self._faults: dict[Path, Faults] = {}
        self._numbered: dict[Path, bool] = {}  # whether the input has lines
        self._rows = self._truncated = self.review = 0
        self._confidence = 0.0  # sum over all rows

    def add(self, path: Path, row: Row, result: Result, label: str | None, confidence: float) -> None:
        self._rows += 1
        self._truncated += bool(result.truncated)
        if label is None:
            self._faults.setdefault(path, Faults(path)).add(row.number, row.line, result.error or "")
            self._numbered[path] = row.line is not None
        else:
            self._labels[label] += 1
            self._confidence += confidence

    def lines(self) -> list[str]:
        errors = sum(len(faults) for faults in self._faults.values())
        scored = self._rows - errors
        shares = "，".join(
            f"{label} {count:,}（{count / scored:.1%}）" for label, count in self._labels.most_common() if count
        )
        mean = f"；平均置信度 {self._confidence / scored:.3f}" if scored else ""
        lines = [f"完成：{self._rows:,} 行，出错 {errors:,} 行；{shares or '没有预测'}{mean}"]
        if self._truncated:
            lines.append(f"过长而截去中段：{self._truncated:,} 行（truncated 为真）")
        for path, faults in self._faults.items():
            of = f"{path.name} " if len(self._faults) > 1 else ""
            lines.append(f"出错的行（原因在 error 列）：{of}{faults.with_places(self._numbered[path])}")
        return lines
