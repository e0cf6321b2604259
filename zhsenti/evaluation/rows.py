"""The rows an evaluation is about: test rows and which are clean, clean dev rows, training rows, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from zhsenti.artifact import Manifest
from zhsenti.core.errors import DataError, ZhsentiError
from zhsenti.core.flags import split_names
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import dataset_of
from zhsenti.data.text import readable
from zhsenti.evaluation.config import EvalConfig

if TYPE_CHECKING:
    from zhsenti.data.split import DatasetSplits, Example

LENGTHS = (20, 50, 100, 200)  # characters


@dataclass(frozen=True)
class EvalData:
    """The rows of one evaluation.

    Attributes:
        whole: The data before any sampling.
        splits: Its test part holds the rows to score.
        train: What baselines may fit on.
        dev: The dev rows whose text is in no training and no test row: what a temperature may be fitted on.
        leak_free: For each test row whether its text is in no training row.
        same: Whether this is the data that the adapter was trained on.
        columns: Name -> each test row's value, for slices.
        notes: What to know of the data (Chinese).
        leaks_checked: Whether the training data of every adapter could be looked at.
    """

    whole: DatasetSplits
    splits: DatasetSplits
    train: list[Example]
    dev: list[Example]
    leak_free: list[bool]
    same: bool
    columns: dict[str, list[str]]
    notes: list[str]
    leaks_checked: bool


def load_eval_data(config: EvalConfig, manifest: Manifest, others: Sequence[Manifest] = ()) -> EvalData:
    """The test rows and which of them are clean.

    A test row is leak-free when its text is neither in this data set's train rows nor, when an adapter was trained
    on other data, in those.

    Args:
        config: Which data, and how many rows of it.
        manifest: Of the adapter under test.
        others: Of the adapters that are compared with it.

    Raises:
        DataError: The data cannot be found, or holds no test row.
    """
    from zhsenti.data.sources import load_dataset
    from zhsenti.data.split import sample

    trained = manifest.data
    auto = config.dataset == "auto"
    keep = split_names(config.slice_columns)
    splits = _load_training_data(manifest, keep) if auto else load_dataset(config, manifest.task, keep)
    same = splits.sha256 == trained.get("sha256")
    if same and not auto and config.seed != trained.get("seed", config.seed):
        # Another seed would cut another split, and rows the adapter was trained on would become test rows.
        splits = load_dataset(replace(config, seed=trained["seed"]), manifest.task, keep)
    if not splits.test:
        raise DataError(f"{splits.name} 没有测试数据", todo="用 --dataset 指定含测试部分的数据。")
    notes, seen = list(splits.notes), splits.train
    cut, leaks_checked = trained.get("seed") if same else config.seed, True
    for number, adapter in enumerate((manifest, *others), start=1):
        if (splits.sha256, cut) == (adapter.data.get("sha256"), adapter.data.get("seed")):
            continue  # the same data, cut in the same way: its training rows are those of splits
        try:
            seen = seen + _load_training_data(adapter).train
            name = adapter.data.get("name", "未知")
            notes.append(f"适配器 {number} 是在另一份数据或另一种切分（{name}）上训练的：“无泄漏”对两份都核对过")
        except ZhsentiError as error:
            leaks_checked = False
            notes.append(
                f"适配器 {number} 是在另一份数据或另一种切分上训练的，且现在找不到它（{error.problem}）："
                "“无泄漏”只核对了本数据的训练部分"
            )
    if config.max_test_samples and config.max_test_samples < len(splits.test):
        notes.append(
            f"测试数据 {len(splits.test)} 条，按标签分层抽样 {config.max_test_samples} 条（种子 {config.seed}）"
        )
    whole = splits
    splits = replace(splits, test=sample(splits.test, config.max_test_samples, config.seed))
    settings = manifest.training.get("settings", {}) if same else {}
    # By default baselines fit on the very rows the adapter was trained on.
    limit = config.max_train_samples or int(settings.get("max_train_samples", 0))
    train = sample(splits.train, limit, int(trained.get("seed", config.seed)) if same else config.seed)
    clean = replace(splits, train=seen)
    known = replace(clean, train=seen + whole.test, test=splits.dev)
    dev = [row for row, free in zip(splits.dev, known.leak_free(), strict=True) if free]
    columns = slice_values(splits, keep)
    return EvalData(whole, splits, train, dev, clean.leak_free(), same, columns, notes, leaks_checked)


def slice_values(splits: DatasetSplits, keep: Sequence[str]) -> dict[str, list[str]]:
    """For each slice column the value of every test row."""
    columns = {"文本长度（字）": [_length(row.text) for row in splits.test]}
    if dataset := dataset_of(splits):
        columns |= {title: [value(row.text) for row in splits.test] for title, value in dataset.slices.items()}
    for k, name in enumerate(keep):
        columns[name] = [readable(row.extra[k][1]) for row in splits.test]
    return columns


def _length(text: str) -> str:
    low = 1
    for high in LENGTHS:
        if len(text) <= high:
            return f"{low}–{high}"
        low = high + 1
    return f"{low} 以上"


def _load_training_data(manifest: Manifest, keep: Sequence[str] = ()) -> DatasetSplits:
    """The recorded data set, cut as it was for training.

    Args:
        manifest: Of the adapter that was trained on it.
        keep: Columns to keep for slices.

    Raises:
        DataError: It is gone, or has changed.
    """
    from zhsenti.data.sources import load_dataset

    trained = manifest.data
    known = {f.name for f in fields(DataConfig)}
    recorded = {key: value for key, value in trained.items() if key in known}
    if recorded.get("dataset") in (None, "auto"):  # auto: the data set that it stood for when the adapter was trained
        recorded["dataset"] = trained.get("name")
    shown = recorded["dataset"] or "（文件夹里没有记录）"
    todo = "用 --dataset 指定测试数据。"
    if not recorded["dataset"]:
        raise DataError(f"找不到训练时用的数据：{shown}", todo=todo)
    try:
        splits = load_dataset(DataConfig(**recorded), manifest.task, keep)
    except DataError as error:
        raise DataError(f"找不到训练时用的数据：{shown}", found=error.problem, todo=todo) from error
    if trained.get("sha256") and splits.sha256 != trained["sha256"]:
        raise DataError(
            f"训练时用的数据已经变了：{shown}",
            expected=f"sha256 {trained['sha256'][:16]}…",
            found=f"sha256 {splits.sha256[:16]}…",
            todo="找回原来的数据，或" + todo,
        )
    return splits
