"""TensorBoard always, Weights & Biases when logged in; neither may ask, print noise or fail the run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from zhsenti.core.console import say
from zhsenti.training.login import wandb_logged_in

WANDB_SECONDS = 20  # how long its server may take to answer


def trackers(output_dir: Path, project: str, run_name: str | None) -> list[TrainerCallback]:
    """Trainer callbacks for the trackers that are available; what is not is said once.

    Args:
        output_dir: Of the run.
        project: Of W&B.
        run_name: W&B's name of the run; its own where None.
    """
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback, WandbCallback

    callbacks: list[TrainerCallback] = []
    try:
        callbacks.append(Expendable(TensorBoardCallback(SummaryWriter(str(output_dir / "tensorboard")))))
        threading.excepthook = _quiet_for_tensorboard
    except OSError as error:
        say(f"TensorBoard 写不了（{error.strerror}），本次不记；训练不受影响。", indent=1)
    if wandb_logged_in() and _start_wandb(output_dir, project, run_name):
        callbacks.append(Expendable(WandbCallback()))
    return callbacks


class Expendable(TrainerCallback):
    """A tracker that may fail (a full disk, a lost network) without costing the run; it is then left out.

    Args:
        inner: The tracker.
    """

    def __init__(self, inner: TrainerCallback) -> None:
        self.inner, self.failed = inner, False

    def _pass_on(
        self, event: str, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.failed:
            return
        try:
            getattr(self.inner, event)(args, state, control, **kwargs)
        except Exception as error:
            self.failed = True
            name = type(self.inner).__name__.removesuffix("Callback")
            say(f"{name} 记不下去了，不再记录（{type(error).__name__}：{error}）；训练不受影响。", indent=1)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._pass_on("on_train_begin", args, state, control, **kwargs)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._pass_on("on_log", args, state, control, **kwargs)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._pass_on("on_save", args, state, control, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._pass_on("on_train_end", args, state, control, **kwargs)


def _quiet_for_tensorboard(failure: threading.ExceptHookArgs) -> None:
    """Keep quiet about a full disk in TensorBoard's own thread: ``Expendable`` sees the same error and says it."""
    if not (type(failure.thread).__name__ == "_AsyncWriterThread" and isinstance(failure.exc_value, OSError)):
        threading.__excepthook__(failure)


def _start_wandb(output_dir: Path, project: str, run_name: str | None) -> bool:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb

        # Figures are synced, and nothing that happens to be there: not the terminal's text, the repository or the code.
        settings = wandb.Settings(
            init_timeout=WANDB_SECONDS,
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
        )
        wandb.init(project=project, name=run_name, dir=str(output_dir), settings=settings)
    except Exception as error:  # a tracker's failure of any kind must not cost the run
        say(f"W&B 不可用，本次不同步（{type(error).__name__}）；训练不受影响。", indent=1)
        return False
    say(f"W&B：同步到项目 {project}", indent=1)
    return True
