"""A whole evaluation, as a user would start it, and a text that tries to get out of every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes import write_adapter
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.evaluation import command
from zhsenti.evaluation.schema import Model
from zhsenti.task import SentimentTask

HOSTILE = '<script>alert(1)</script><img src="http://example.com/x.png" onerror=alert(2)>'


def trained_on(folder: Path, dataset: Path, task: SentimentTask | None = None, seed: int = 42) -> Path:
    """An adapter in ``folder`` that says it was trained on ``dataset``."""
    task = task or SentimentTask()
    splits = load_dataset(DataConfig(dataset=str(dataset), seed=seed), task)
    data = {"name": splits.name, "sha256": splits.sha256, "dataset": str(dataset), "seed": seed}
    write_adapter(folder, data, task)
    return folder


def run(adapter: Path, *flags: str) -> Path:
    output = adapter.parent / "out"
    assert command.main(["--model_path", str(adapter), "--output_dir", str(output), *flags]) == 0
    return output


def read(path: Path, kind: type[Model]) -> Any:
    """A file of results as ``kind``, which nothing in it may contradict."""
    return kind.model_validate_json(path.read_bytes())
