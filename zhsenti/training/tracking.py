"""TensorBoard always, Weights & Biases when logged in; neither may ask, print noise or fail the run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from zhsenti.training.login import wandb_logged_in


def trackers(output_dir: Path, project: str, run_name: str | None, say: Callable[[str], None]) -> list[TrainerCallback]:
    """Trainer callbacks for the trackers that are available; what is not is said once, in Chinese."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback, WandbCallback

    callbacks: list[TrainerCallback] = []
    try:
        callbacks.append(Expendable(TensorBoardCallback(SummaryWriter(str(output_dir / "tensorboard"))), say))
        threading.excepthook = _quiet_for_tensorboard
    except OSError as error:
        say(f"TensorBoard 写不了（{error.strerror}），本次不记；训练不受影响。")
    if wandb_logged_in() and _start_wandb(output_dir, project, run_name, say):
        callbacks.append(Expendable(WandbCallback(), say))
    return callbacks


class Expendable(TrainerCallback):
    """A tracker that may fail (a full disk, a lost network) without costing the run; it is then left out."""

    def __init__(self, inner: TrainerCallback, say: Callable[[str], None]) -> None:
        self.inner, self.say, self.failed = inner, say, False

    def _pass_on(self, event: str, *args: Any, **kwargs: Any) -> None:
        if self.failed:
            return
        try:
            getattr(self.inner, event)(*args, **kwargs)
        except Exception as error:
            self.failed = True
            name = type(self.inner).__name__.removesuffix("Callback")
            self.say(f"{name} 记不下去了，不再记录（{type(error).__name__}：{error}）；训练不受影响。")

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._pass_on("on_train_begin", *args, **kwargs)

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        self._pass_on("on_log", *args, **kwargs)

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self._pass_on("on_save", *args, **kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._pass_on("on_train_end", *args, **kwargs)


def _quiet_for_tensorboard(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread raises what the disk says to nobody; ``Expendable`` sees the same error and says it."""
    if not (type(failure.thread).__name__ == "_AsyncWriterThread" and isinstance(failure.exc_value, OSError)):
        threading.__excepthook__(failure)


def _start_wandb(output_dir: Path, project: str, run_name: str | None, say: Callable[[str], None]) -> bool:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb

        options: dict[str, Any] = {"project": project, "name": run_name, "dir": str(output_dir)}
        wandb.init(**options, settings=wandb.Settings(init_timeout=20, silent=True))
    except Exception as error:  # a tracker's failure of any kind must not cost the run
        say(f"W&B 不可用，本次不同步（{type(error).__name__}）；训练不受影响。")
        return False
    say(f"W&B：同步到项目 {project}")
    return True
