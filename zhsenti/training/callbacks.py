"""What watches a run: its log, its bar, and when it saves and stops."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


class FinalCheckpoint(TrainerCallback):
    """The last step is evaluated and saved too, also when it is no multiple of eval_steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class StopWhenAsked(TrainerCallback):
    """Checkpoint and stop after the step in which ``asked`` became true (a signal came)."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.asked():
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control)


class EarlyStop(TrainerCallback):
    """Stop after ``patience`` evaluations in a row without a better accuracy; a function of the state's history alone,
    so a resumed run decides as an unbroken one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def is_due(self, history: list[dict[str, float]]) -> bool:
        scores = [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.is_due(state.log_history):
            control.should_training_stop = True


class ResultsLog(TrainerCallback):
    """``train_results.json``: one JSON object a line, written as it happens, so ``tail -f`` follows the run.

    Lines that the disk does not take are kept and written with the next one. Without a path nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.waiting: list[str] = []

    def write(self, event: str, **values: Any) -> None:
        if self.path is None:
            return
        line = json.dumps({"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values}, ensure_ascii=False)
        self.waiting.append(line + "\n")
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            if size and not self._ends_well():  # a power cut left half a line
                self.waiting.insert(0, "\n")
            try:
                with self.path.open("ab") as stream:
                    stream.write("".join(self.waiting).encode())
            except OSError:
                with self.path.open("r+b") as stream:  # no half line is left
                    stream.truncate(size)
                raise
        except OSError:
            return
        self.waiting.clear()

    def _ends_well(self) -> bool:
        assert self.path is not None
        with self.path.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read(1) == b"\n"

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            values = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
            self.write("train", step=state.global_step, epoch=round(state.epoch, 4), **values)
        if "eval_accuracy" in logs:
            self.write(
                "eval",
                step=state.global_step,
                epoch=round(state.epoch, 4),
                dev_accuracy=logs["eval_accuracy"],
                dev_loss=logs["eval_loss"],
                seconds=logs["eval_runtime"],
            )


class ProgressView(TrainerCallback):
    """A bar with ETA, loss and dev accuracy on a terminal; a line per log elsewhere (a file, CI)."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        self.loss, self.dev = "…", "…"
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("剩余"),
            TimeRemainingColumn(),
            console=self.console,
            transient=False,
        )
        self.train_task: Any = None
        self.dev_task: Any = None
        self.started = 0.0

    def _note(self) -> str:
        return f"损失 {self.loss}  验证准确率 {self.dev}"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if self.console.is_terminal:
            self.bar.start()
        self.train_task = self.bar.add_task(
            "训练", total=state.max_steps, completed=state.global_step, note=self._note()
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.train_task, completed=state.global_step, note=self._note())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.loss = f"{logs['loss']:.4f}"
        if "eval_accuracy" in logs:
            self.dev = f"{logs['eval_accuracy']:.2%}"
        self.bar.update(self.train_task, note=self._note())
        if not self.console.is_terminal and ("loss" in logs or "eval_accuracy" in logs):
            done = state.global_step - self.first_step
            left = (time.monotonic() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
            self.console.print(
                f"步 {state.global_step}/{state.max_steps}  {self._note()}  剩余约 {left / 60:.1f} 分钟",
                highlight=False,
            )

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if self.dev_task is None:
            self.dev_task = self.bar.add_task("验证", total=len(eval_dataloader), note="")
        self.bar.advance(self.dev_task)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.dev_task is not None:
            self.bar.remove_task(self.dev_task)
            self.dev_task = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()
