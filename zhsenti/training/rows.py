"""The rows of a run, read and cut to size before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.errors import DataError
from zhsenti.core.hashing import rows_sha256
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import DatasetSplits, Example, sample
from zhsenti.task import SentimentTask
from zhsenti.training.config import TrainConfig


@dataclass(frozen=True)
class Rows:
    """What a run reads.

    Attributes:
        splits: The data set as it was found.
        train: Its rows that are trained on.
        dev: Its rows that choose the best weights.
    """

    splits: DatasetSplits
    train: list[Example]
    dev: list[Example]

    @property
    def sha256(self) -> str:
        """Hash of the rows that this run reads."""
        return rows_sha256(row.cells for row in [*self.train, *self.dev])


def read_rows(config: TrainConfig, task: SentimentTask) -> Rows:
    """Read the rows that ``config`` names.

    Raises:
        DataError: They cannot be read, a label is unknown, or those to train on have one label alone.
    """
    splits = load_dataset(config, task)
    train = sample(splits.train, config.max_train_samples, config.seed)
    present = {row.label for row in train}
    if len(present) < 2:
        only = "、".join(task.labels[i] for i in sorted(present)) or "无"
        raise DataError(
            "训练集只有一类标签",
            expected="至少两类",
            found=f"{len(train)} 条，标签：{only}",
            todo="补充另一类的数据。",
        )
    return Rows(splits, train, sample(splits.dev, config.max_dev_samples, config.seed))
