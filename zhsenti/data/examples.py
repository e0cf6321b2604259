"""From one data file to labelled examples: what training reads, and what it says about rows that it cannot use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhsenti.data.config import DataConfig
from zhsenti.data.faults import Faults
from zhsenti.data.read import ASPECT, LABEL, SLICE, TEXT, open_rows
from zhsenti.data.split import Example
from zhsenti.data.text import cell_text, suspicious
from zhsenti.task import SentimentTask

MAX_UNKNOWN = 100_000  # unknown labels that are remembered for the message


def read_examples(
    path: Path, config: DataConfig, task: SentimentTask, keep: Sequence[str]
) -> tuple[list[Example], list[str]]:
    """Read the usable rows of one file.

    Args:
        path: The file.
        config: The columns. With ``on_error`` "skip", rows that cannot be used are left out and reported in a note.
        task: What the labels mean, and whether there is an aspect.
        keep: Columns to keep as the rows' ``extra``.

    Returns:
        The rows, and Chinese notes for the user.

    Raises:
        DataError: The file as a whole cannot be used, or there are rows that cannot; the message lists them.
    """
    source = open_rows(path)
    text, label = source.column(config.text_column, TEXT), source.column(config.label_column, LABEL)
    aspect = source.column(config.aspect_column, ASPECT) if task.has_aspect else None
    kept = [(name, source.column(name, SLICE)) for name in keep]
    examples: list[Example] = []
    faults, odd = Faults(path), 0
    unknown: list[str] = []
    for row in source.held():
        review, error = source.text(row, text)
        written, error = ("", error) if error else source.cell(row, label, LABEL)
        subject, error = (None, error) if error or aspect is None else source.cell(row, aspect, ASPECT)
        index = None if error else task.label_index(written)
        if index is None:
            faults.add(row.number, row.line, error or f"标签不认识：{written[:40]!r}")
            if not error and len(unknown) < MAX_UNKNOWN:
                unknown.append(written[:200])
            continue
        odd += bool(suspicious(review))
        extra = tuple((name, cell_text(row.values[column])) for name, column in kept)
        examples.append(Example(review, index, subject, row.number, extra))
    notes = list(source.content.notes)
    if faults:
        notes.append(_report(faults, unknown, len(examples), config, task, lines=row.line is not None))
    columns = f"文本列 {source.name(text)}，标签列 {source.name(label)}"
    notes.append(f"{path.name}：{len(examples)} 行，{columns}")
    if odd:
        notes.append(f"{path.name}：{odd} 行有可疑字符（乱码、控制或零宽字符），照原样保留；zhsenti audit 会逐行列出")
    return examples, notes


def _report(
    faults: Faults, unknown: list[str], usable: int, config: DataConfig, task: SentimentTask, *, lines: bool
) -> str:
    """What was left out (Chinese).

    Raises:
        DataError: Nothing may be left out, or nothing is left.
    """
    if config.on_error == "skip" and usable:
        return f"{faults.path.name}：跳过 {len(faults)} 行，共 {len(faults) + usable} 行：{faults.with_places(lines)}"
    expected = details = ""
    todo = "改正或删掉这些行；要跳过它们就加 --on_error skip，跳过的行会报告出来。"
    if unknown:
        expected, found, declare = task.unknown_labels(unknown)
        details, todo = f"不认识的标签：{found}", f"{declare}{todo}"
    if config.on_error == "skip":
        todo = "所有行都用不了，没有可跳过后剩下的：检查列名和编码。"
    raise faults.error(todo, expected, details)
