"""Data of the user's own: one file, which is cut in three, or a folder with a file for each split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.examples import read_examples
from zhsenti.data.read import data_files
from zhsenti.data.sniff import is_folder, list_folder
from zhsenti.data.split import DatasetSplits, Example, stratified_split
from zhsenti.task import SentimentTask

SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "valid", "validation", "val"), "test": ("test",)}


def load_path(path: Path, config: DataConfig, task: SentimentTask, keep: Sequence[str] = ()) -> DatasetSplits:
    """Read a file or folder as splits.

    Args:
        path: A file, which is cut 8:1:1, or a folder with files called as in ``SPLIT_NAMES``; what it lacks of dev
            and test is cut from train.
        config: The columns, the seed of the cut, and what is done about rows that cannot be used.
        task: What the labels mean.
        keep: Columns of the file to keep as the rows' ``extra``.

    Returns:
        The splits, with notes, not yet counted and hashed.

    Raises:
        DataError: There is no such file, or it cannot be used.
    """
    if is_folder(path):
        return _folder(path, config, task, keep)
    rows, notes = read_examples(path, config, task, keep)
    train, dev, test = stratified_split(rows, config.seed)
    notes.append(f"一个文件 {len(rows)} 行，按 8:1:1 分层切分，相同文本不跨切分")
    return DatasetSplits(str(path), f"本地文件 {path}", train, dev, test, notes=notes)


def _folder(folder: Path, config: DataConfig, task: SentimentTask, keep: Sequence[str]) -> DatasetSplits:
    splits: dict[str, list[Example]] = {}
    notes: list[str] = []
    tables = data_files(folder)
    for split, names in SPLIT_NAMES.items():
        files = [path for path in tables if path.stem.lower() in names]
        if len(files) > 1:
            raise DataError(
                f"{folder} 里有不止一个 {split} 文件", found="、".join(p.name for p in files), todo="只留一个。"
            )
        if files:
            splits[split], of_file = read_examples(files[0], config, task, keep)
            notes += of_file
    if "train" not in splits:
        listed = "、".join(p.name for p in list_folder(folder)[:8]) or "空文件夹"
        raise DataError(
            f"{folder} 里没有训练文件", expected="train.csv（或 tsv、jsonl、parquet、xlsx 等）", found=listed
        )
    missing = [split for split in ("dev", "test") if split not in splits]
    if missing:
        shares = [0.1 if split in missing else 0.0 for split in ("dev", "test")]
        train, dev, test = stratified_split(splits["train"], config.seed, *shares)
        splits = {"dev": dev, "test": test, **splits, "train": train}
        notes.append(f"没有 {'、'.join(missing)} 文件：从训练集分层切出，相同文本不跨切分")
    return DatasetSplits(
        str(folder), f"本地文件夹 {folder}", splits["train"], splits["dev"], splits["test"], notes=notes
    )
