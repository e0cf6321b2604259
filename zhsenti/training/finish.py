"""The end of a run: the adapter is saved, the log gets its last line, and the user learns what to type next."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from safetensors import SafetensorError

from zhsenti.artifact import Manifest, save_artifact
from zhsenti.core.console import duration, say
from zhsenti.core.errors import TrainingError, first_line
from zhsenti.core.provenance import library_versions
from zhsenti.task import SentimentTask
from zhsenti.training.callbacks import ResultsLog
from zhsenti.training.checkpoints import last_whole
from zhsenti.training.config import TrainConfig
from zhsenti.training.failures import is_disk_error
from zhsenti.training.prepare import Parts
from zhsenti.training.session import Result

# Settings that the manifest keeps with the data, so that the very rows can be read again.
_DATA_KEYS = {"dataset", "text_column", "label_column", "aspect_column", "duplicates", "conflicts", "on_error", "seed"}
# What the manifest says elsewhere.
_SAID_ELSEWHERE = _DATA_KEYS | {"method"}


def finish(parts: Parts, result: Result, adapter: Path, log: ResultsLog) -> None:
    """Write the adapter folder and the log's last line, and say so.

    Raises:
        TrainingError: The disk does not take the adapter.
    """
    data = _data(parts)
    training = {"settings": _settings(parts.config), "result": dict(result)}
    method = parts.method
    try:
        save_artifact(adapter, parts.network, Manifest(method.name, method.task, parts.base, data, training))
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_disk_error(error):
            raise
        raise TrainingError(
            "训练完成了，但适配器写不进磁盘",
            found=f"{first_line(error)}；{last_whole(adapter.parent)}",
            todo="腾出空间后，同一条命令加 --resume_from_checkpoint auto：有检查点就接着它，没有就从头训练。",
        ) from error
    log.write("summary", adapter=str(adapter), data=data, base=parts.base, versions=library_versions(), **result)
    for line in _closing_lines(result, adapter, log) + _next_lines(adapter, method.task):
        say(line)


def _data(parts: Parts) -> dict[str, object]:
    splits, config = parts.rows.splits, parts.config
    counts = {"n_train": len(parts.rows.train), "n_dev": len(parts.rows.dev)}
    chosen = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name in _DATA_KEYS}
    return {"name": splits.name, "sha256": splits.sha256, **counts, **chosen}


def _settings(config: TrainConfig) -> dict[str, object]:
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _SAID_ELSEWHERE}
    return {**settings, "task": None}  # the manifest has the task as it was resolved


def _closing_lines(result: Result, adapter: Path, log: ResultsLog) -> list[str]:
    low, high = result["dev_accuracy_interval"]
    lines = [
        f"完成：验证准确率 {result['dev_accuracy']:.2%}"
        f"（n={result['n_dev']}，95 % 区间 {low:.2%}–{high:.2%}），"
        f"{duration(result['seconds'])}，{result['reviews_per_second']:.2f} 条/秒。",
        f"适配器：{adapter}",
    ]
    if log.waiting:
        lines.append(f"注意：磁盘写不下，{log.path} 里少了最后 {len(log.waiting)} 行。")
    return lines


def _next_lines(adapter: Path, task: SentimentTask) -> list[str]:
    """What can be typed now."""
    folder = shlex.quote(str(adapter))
    aspect = " --aspect 质量" if task.has_aspect else ""
    return [
        f"下一步：zhsenti predict --model_path {folder} --text 这个产品质量非常好{aspect}",
        f"        zhsenti evaluate --model_path {folder}",
    ]
