"""What makes a run this run and no other: all that decides its weights, compared before a checkpoint is taken up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zhsenti.core.errors import TrainingError
from zhsenti.core.paths import user_path
from zhsenti.task import SentimentTask
from zhsenti.training.checkpoints import Identity, checkpoints, read_mark
from zhsenti.training.config import TrainConfig

# Settings that do not change the weights: free to differ between a run and its resumption.
FREE = {
    "model_name", "dataset", "text_column", "label_column", "aspect_column", "task", "output_dir",
    "resume_from_checkpoint", "wandb_project", "run_name", "logging_steps", "save_total_limit", "num_processes",
    "gradient_checkpointing", "memory_budget", "on_error",
}  # fmt: skip
MAX_SHOWN = 80  # characters of a value


def identity_of(
    config: TrainConfig, task: SentimentTask, decided: Mapping[str, object], *, data: str, base: str
) -> Identity:
    """The identity of a run.

    Args:
        config: Its settings, of which those in ``FREE`` do not count.
        task: As it was resolved.
        decided: What was chosen where the settings leave it open: precision, use_qlora, processes.
        data: SHA-256 of the rows.
        base: Revision of the base.
    """
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}
    resolved = {**settings, **decided, "max_length": task.max_length}
    return {"config": resolved, "task": task.to_dict(), "data": data, "base": base}


def keep_base(config: TrainConfig, output_dir: Path) -> TrainConfig:
    """``config`` with the checkpoint's answer to whether the base is in 4 bits, where a run goes on from one.

    Where nobody has said, free memory decides that, which is another at every start.
    """
    wanted = config.resume_from_checkpoint
    if wanted == "none" or config.use_qlora is not None:
        return config
    for folder in checkpoints(output_dir) if wanted == "auto" else [user_path(wanted)]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return dataclasses.replace(config, use_qlora=bool(read_mark(folder)["identity"]["config"]["use_qlora"]))
    return config


def check_same_run(folder: Path, identity: Identity) -> None:
    """Refuse to go on with other data, task, base or settings: a different run under the old name.

    Raises:
        TrainingError: The checkpoint in ``folder`` is of a run with another identity; it lists every difference.
    """
    before, now = _flat(read_mark(folder)["identity"]), _flat(json.loads(json.dumps(identity)))
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        lines = "；".join(f"{key}：{_short(before.get(key))} → {_short(now.get(key))}" for key in changed)
        raise TrainingError(
            f"不能从 {folder} 续训：这次的设置与上次不同",
            found=lines,
            todo="改回原来的设置，或用 --resume_from_checkpoint none 从头训练。",
        )


def _flat(identity: Identity) -> dict[str, Any]:
    """``identity`` by the names users know: settings by their flag, the task's parts one by one."""
    task = {f"task.{key}": value for key, value in identity["task"].items()}
    return {**identity["config"], **task, "数据（SHA-256）": identity["data"], "基座（SHA-256）": identity["base"]}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "…"
