"""What is said of splits however they were loaded: repeats, contradictions, leaks, and the hash of the rows kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from zhsenti.core.errors import DataError
from zhsenti.core.hashing import rows_sha256
from zhsenti.data.config import DataConfig
from zhsenti.data.split import DatasetSplits, Example, normalise


def finish(splits: DatasetSplits, config: DataConfig) -> DatasetSplits:
    """Clean the training rows as ``config`` says, count what the splits share, and hash the rows kept.

    Returns:
        The splits with ``sha256`` and more notes.

    Raises:
        DataError: A split is empty.
    """
    for name, rows in (("训练集", splits.train), ("验证集", splits.dev), ("测试集", splits.test)):
        if not rows:
            raise DataError(
                f"{name}是空的", found=splits.source, todo="数据太少，切不出三份：多给一些，或给出三个文件。"
            )
    train, notes = _clean(splits.train, config)
    seen, exact = {normalise(e.text) for e in train}, {e.text for e in train}
    for name, rows in (("验证集", splits.dev), ("测试集", splits.test)):
        same = sum(normalise(e.text) in seen for e in rows)
        if same:
            identical = sum(e.text in exact for e in rows)
            notes.append(f"{name} {len(rows)} 条中有 {same} 条的文本也在训练集里（其中 {identical} 条一字不差）")
    whole = sorted([*train, *splits.dev, *splits.test], key=lambda e: (e.text, e.label, e.aspect or ""))
    return replace(splits, train=train, sha256=rows_sha256(row.cells for row in whole), notes=[*splits.notes, *notes])


def _clean(rows: list[Example], config: DataConfig) -> tuple[list[Example], list[str]]:
    """Count duplicates and contradictory labels in train; drop them only where the flags say so."""
    labels_of: dict[tuple[str, str | None], Counter[int]] = defaultdict(Counter)
    for e in rows:
        labels_of[normalise(e.text), e.aspect][e.label] += 1
    repeats = len(rows) - sum(len(labels) for labels in labels_of.values())
    torn = {key for key, labels in labels_of.items() if len(labels) > 1}
    torn_rows = sum(labels_of[key].total() for key in torn)
    kept: list[Example] = []
    seen: set[tuple[tuple[str, str | None], int]] = set()
    for e in rows:
        key = (normalise(e.text), e.aspect)
        if config.conflicts == "drop" and key in torn:
            continue
        if config.duplicates == "drop" and (key, e.label) in seen:
            continue
        seen.add((key, e.label))
        kept.append(e)
    notes = []
    if repeats:
        notes.append(f"训练集有 {repeats} 条重复文本（{'只留第一条' if config.duplicates == 'drop' else '保留'}）")
    if torn:
        done = "都去掉" if config.conflicts == "drop" else "保留"
        notes.append(f"训练集有 {len(torn)} 个文本带不同的标签，共 {torn_rows} 条（{done}）")
    if len(kept) != len(rows):
        notes.append(f"训练集从 {len(rows)} 条变为 {len(kept)} 条")
    return kept, notes
