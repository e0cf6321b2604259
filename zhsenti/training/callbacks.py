"""What watches a run: its log, its bar, and when it saves and stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from zhsenti.core.console import Bar, Progress
from zhsenti.core.journal import Journal, Record


class FinalCheckpoint(TrainerCallback):
    """The last step is evaluated and saved too, also when it is no multiple of eval_steps."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class StopWhenAsked(TrainerCallback):
    """Checkpoint and stop after the step in which ``asked`` became true (a signal came)."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.asked():
            control.should_save = control.should_training_stop = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.on_step_end(args, state, control)


class EarlyStop(TrainerCallback):
    """Stop after ``patience`` evaluations in a row without a better accuracy.

    It is decided from the state's history alone, so a resumed run decides as an unbroken one.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def is_due(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether a run with this ``history`` of log entries has to stop."""
        scores = [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.is_due(state.log_history):
            control.should_training_stop = True


class ResultsLog(TrainerCallback):
    """``train_results.json``: one JSON object a line, written as it happens, so ``tail -f`` follows the run.

    Args:
        path: The file; without one nothing is written.

    Attributes:
        path: As given.
        waiting: Records that the disk did not take; they are written with the next one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.waiting: list[Record] = []
        self._journal = Journal(path, tail_only=True) if path else None

    def write(self, event: str, **values: object) -> None:
        """Add one line, with the time. A disk that does not take it is no error: see ``waiting``."""
        if self._journal is None:
            return
        self.waiting.append({"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values})
        try:
            self._journal.append(*self.waiting, sync=False)
        except OSError:
            return
        self.waiting.clear()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        logs = logs or {}
        where = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "loss" in logs:
            values = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
            self.write("train", **where, **values)
        if "eval_accuracy" in logs:
            scores = {"dev_accuracy": logs["eval_accuracy"], "dev_loss": logs["eval_loss"]}
            self.write("eval", **where, **scores, seconds=logs["eval_runtime"])


class ProgressView(TrainerCallback):
    """A bar with time left, loss and dev accuracy on a terminal; a line per log elsewhere (a file, CI)."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.training: Bar | None = None
        self.evaluation: Bar | None = None
        self._loss = self._accuracy = ""  # in words; empty until there is one

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.progress.start()
        self.training = self.progress.add("训练", state.max_steps, unit="步", done=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.training:
            self.training.set(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            self._loss = f"损失 {logs['loss']:.3g}"
        if "eval_accuracy" in logs:
            self._accuracy = f"验证 {logs['eval_accuracy']:.1%}"
        if self.training and ("loss" in logs or "eval_accuracy" in logs):
            self.training.note = "  ".join(filter(None, [self._loss, self._accuracy]))
            self.training.tell()

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Sized = (),
        **kwargs: object,
    ) -> None:
        if self.evaluation and self.evaluation.total != len(eval_dataloader):  # begun again with smaller passes
            self.evaluation.remove()
            self.evaluation = None
        if self.evaluation is None:
            self.evaluation = self.progress.add("验证", len(eval_dataloader), unit="批")
        self.evaluation.advance()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.evaluation:
            self.evaluation.remove()
            self.evaluation = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars away; also for a run that ends in the middle."""
        self.progress.stop()
