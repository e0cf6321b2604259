"""The real reviews that an export is compared on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from zhsenti.artifact import Manifest
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.core.paths import user_path
from zhsenti.data.registry import DATASETS
from zhsenti.evaluation.config import EvalConfig
from zhsenti.export.config import ExportConfig

Row = tuple[str, str, str | None]  # name, text, aspect


@dataclass(frozen=True)
class Rows:
    """Reviews to compare on.

    Attributes:
        texts: The reviews.
        aspects: One for each, where the task has them; else None.
        names: Where each row stands (``test:17``).
        source: Where they all come from: a path or a data set's name.
        notes: Chinese lines for the user.
    """

    texts: list[str]
    aspects: list[str | None] | None
    names: list[str]
    source: str
    notes: list[str]


def parity_rows(config: ExportConfig, manifest: Manifest) -> Rows:
    """At most ``config.samples`` rows, drawn with ``config.seed``: a file's own, whatever their labels; of a data set
    with splits clean test rows first, then clean dev rows, then test rows whose text was trained on.

    Raises:
        ConfigError: The data that the adapter was trained on (``auto``) cannot be found.
        DataError: The data cannot be read.
    """
    path = user_path(config.dataset)
    return _from_file(config, manifest) if path.is_file() else _from_splits(config, manifest)


def _from_file(config: ExportConfig, manifest: Manifest) -> Rows:
    from zhsenti.data.read import ASPECT, TEXT, open_rows
    from zhsenti.prediction.batch.windows import Columns

    path, has_aspect = user_path(config.dataset), manifest.task.has_aspect
    source = open_rows(path)
    columns = Columns(
        source.column(config.text_column, TEXT),
        source.column(config.aspect_column, ASPECT) if has_aspect else None,
    )
    usable: list[Row] = []
    unusable = 0
    for row in source.held():
        question = columns.question(source, row)
        if question.error:
            unusable += 1
        else:
            usable.append((f"{path.stem}:{row.number}", question.text, question.aspect))
    if not usable:
        raise DataError(f"{path} 里没有能用的文本", found=f"{unusable} 行都用不了", todo="检查文本列，或换一个文件。")
    notes = [f"{path.name}：跳过用不了的 {unusable} 行"] if unusable else []
    return _rows(_draw([usable], config), str(path), has_aspect, notes)


def _from_splits(config: ExportConfig, manifest: Manifest) -> Rows:
    from zhsenti.evaluation.rows import load_eval_data

    wanted = EvalConfig(
        model_path=config.model_path,
        dataset=config.dataset,
        text_column=config.text_column,
        aspect_column=config.aspect_column,
        seed=config.seed,
    )
    try:
        data = load_eval_data(wanted, manifest)
    except DataError as error:
        if config.dataset != "auto":
            raise
        raise ConfigError(
            "找不到拿来核对的真实评论",
            found=f"{error.problem}{f'（{error.found}）' if error.found else ''}",
            todo=f"用 --dataset 给出一个有文本列的文件（标签可以没有），或 {'、'.join(DATASETS)}。",
        ) from error
    tests = [(f"test:{e.row}", e.text, e.aspect) for e in data.splits.test]
    clean = [row for row, free in zip(tests, data.leak_free, strict=True) if free]
    seen = [row for row, free in zip(tests, data.leak_free, strict=True) if not free]
    dev = [(f"dev:{e.row}", e.text, e.aspect) for e in data.dev]
    return _rows(_draw([clean, dev, seen], config), data.splits.name, manifest.task.has_aspect, [])


def _draw(groups: Sequence[Sequence[Row]], config: ExportConfig) -> list[Row]:
    """``config.samples`` rows at random from the first groups that have them, in the order they stand there."""
    drawn: list[Row] = []
    generator = random.Random(config.seed)
    for group in groups:
        number = min(len(group), config.samples - len(drawn))
        drawn += [group[i] for i in sorted(generator.sample(range(len(group)), number))]
    return drawn


def _rows(drawn: list[Row], source: str, has_aspect: bool, notes: list[str]) -> Rows:
    names, texts, aspects = (list(column) for column in zip(*drawn, strict=True))
    return Rows(texts, aspects if has_aspect else None, names, source, notes)
