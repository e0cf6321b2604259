"""From what the user names to the rows of an audit, which reports what is wrong in a row where training refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhsenti.audit.config import FINDINGS, RESULT, AuditConfig
from zhsenti.audit.rows import AuditSplit
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.core.paths import user_path
from zhsenti.data.config import DataConfig
from zhsenti.data.read import ASPECT, LABEL, SUFFIXES, TEXT, data_files, read_table
from zhsenti.data.registry import DATASETS
from zhsenti.data.sniff import is_folder, list_folder
from zhsenti.data.sources import load_dataset
from zhsenti.data.sources.files import SPLIT_NAMES
from zhsenti.data.split import DatasetSplits
from zhsenti.data.text import cell_text
from zhsenti.task import SentimentTask

_CANONICAL = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}


def read_splits(config: AuditConfig, task: SentimentTask) -> tuple[list[AuditSplit], list[str]]:
    """Read what an audit is asked to look at.

    Returns:
        The rows of ``config.files``, and notes for the user (Chinese).

    Raises:
        ConfigError: No file was named.
        DataError: A file or folder cannot be used as a whole, or two of them would have the same name.
    """
    if not config.files:
        raise ConfigError(
            "没有给出要审计的数据", expected="数据文件、文件夹，或 " + "、".join(DATASETS), todo="zhsenti audit 文件…"
        )
    if len(config.files) == 1 and config.files[0] in DATASETS:
        dataset = load_dataset(DataConfig(dataset=config.files[0], seed=config.seed), task)
        return from_dataset(dataset), list(dataset.notes)
    notes: list[str] = []
    splits: list[AuditSplit] = []
    for path in _files(config.files, notes):
        name = _CANONICAL.get(path.stem.lower(), path.stem)
        same = next((split for split in splits if split.name == name), None)
        if same:
            raise DataError(
                f"有两个文件都是 {name}", found=f"{same.source}、{path}", todo="只留一个，或给其中一个改名。"
            )
        splits.append(_read(path, name, config, task, notes))
    return splits, notes


def from_dataset(splits: DatasetSplits) -> list[AuditSplit]:
    """Rows that are already loaded, hence known labels only."""
    return [
        AuditSplit(
            name=name,
            source=splits.source,
            texts=[e.text for e in examples],
            labels=[e.label for e in examples],
            rows=[e.row for e in examples],
            aspects=[e.aspect or "" for e in examples],
        )
        for name, examples in (("train", splits.train), ("dev", splits.dev), ("test", splits.test))
        if examples
    ]


def _files(given: Sequence[str], notes: list[str]) -> list[Path]:
    files: list[Path] = []
    for word in given:
        path = user_path(word)
        files += _in_folder(path, notes) if is_folder(path) else [path]
    return files


def _in_folder(folder: Path, notes: list[str]) -> list[Path]:
    """Its train, dev and test files; where there is none of these, every data file."""
    files = [p for p in data_files(folder) if p.name not in (FINDINGS, RESULT)]  # an earlier audit's are no data
    splits = [p for p in files if p.stem.lower() in _CANONICAL]
    if not files:
        listed = "、".join(p.name for p in list_folder(folder)[:8]) or "空文件夹"
        raise DataError(f"{folder} 里没有数据文件", expected="、".join(SUFFIXES), found=listed)
    if splits and len(splits) < len(files):
        others = "、".join(p.name for p in files if p not in splits)
        notes.append(f"{folder} 里的这些文件没有审计：{others}；要审计就逐个写出来")
    return splits or files


def _read(path: Path, name: str, config: AuditConfig, task: SentimentTask, notes: list[str]) -> AuditSplit:
    table = read_table(path)
    text = table.column(config.text_column, TEXT)
    aspect = table.column(config.aspect_column, ASPECT) if task.has_aspect else None
    has_label = config.label_column or {str(c).strip().lower() for c in table.columns} & set(LABEL.names)
    label = table.column(config.label_column, LABEL) if has_label else None
    if label is None:
        notes.append(f"{path.name}：没有标签列，只审计文本；标签列叫别的名字就用 {LABEL.flag} 指出")
    written = None if label is None else [cell_text(row[label]) for row in table.rows]
    return AuditSplit(
        name=name,
        source=str(path),
        texts=[cell_text(row[text]) for row in table.rows],
        labels=None if written is None else [task.label_index(value) for value in written],
        rows=range(1, len(table.rows) + 1),
        aspects=None if aspect is None else [cell_text(row[aspect]) for row in table.rows],
        raw_labels=written,
        note="；".join(note.removeprefix(f"{path.name}：") for note in table.notes),
    )
