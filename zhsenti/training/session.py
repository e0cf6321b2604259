"""Parts to trained weights: the Trainer's arguments, what watches it, and the figures of the end."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import TypedDict

from transformers import TrainerCallback, TrainerState, TrainingArguments

from zhsenti.core.errors import Interrupted
from zhsenti.core.intervals import wilson
from zhsenti.training.callbacks import EarlyStop, FinalCheckpoint, ProgressView, ResultsLog, StopWhenAsked
from zhsenti.training.checkpoints import Identity, read_mark
from zhsenti.training.interrupts import StopRequest
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.plan import Fit
from zhsenti.training.prepare import Parts
from zhsenti.training.resources import peak_memory_bytes
from zhsenti.training.restore import best_weights, put_adapter, read_state, refusing
from zhsenti.training.tracking import trackers


class Result(TypedDict):
    """A finished run in figures: the last line of ``train_results.json``, and a part of the saved folder's manifest.

    Attributes:
        dev_accuracy: Of the best evaluation, whose weights are kept.
        dev_accuracy_interval: Wilson's 95 % interval of it.
        n_train: Rows trained on.
        n_dev: Dev rows.
        best_step: After which update the best evaluation was; None where no one was.
        steps: Updates.
        seconds: Of training, all parts of an interrupted run together.
        reviews_per_second: Over these.
        peak_memory_gb: Of this process, 10^9 bytes.
        micro_tokens: Tokens of a forward pass, at the end.
        gradient_checkpointing: Whether activations were recomputed, at the end.
        estimated_seconds: What the plan expected.
        estimated_memory_gb: What the plan expected.
    """

    dev_accuracy: float
    dev_accuracy_interval: list[float]
    n_train: int
    n_dev: int
    best_step: int | None
    steps: int
    seconds: float
    reviews_per_second: float
    peak_memory_gb: float
    micro_tokens: int
    gradient_checkpointing: bool
    estimated_seconds: float
    estimated_memory_gb: float


class Session:
    """One pass through the training loop, from the start or from a checkpoint, to the best weights.

    Args:
        parts: What the run is made of.
        identity: Of the run; checkpoints hold it.
        output_dir: Where it writes.
        log: Its ``train_results.json``.
    """

    def __init__(self, parts: Parts, identity: Identity, output_dir: Path, log: ResultsLog) -> None:
        self.parts, self.identity, self.output_dir, self.log = parts, identity, output_dir, log

    def run(self, checkpoint: Path | None) -> Result:
        """Train to the end; the network has the best weights then.

        Raises:
            Interrupted: A signal came, and the step that was being computed is done and saved.
            TrainingError: The run cannot go on.
        """
        event, taken = ("resume", str(checkpoint)) if checkpoint else ("start", None)
        self.log.write(event, checkpoint=taken, **self.identity)
        started, seconds = time.monotonic(), read_mark(checkpoint)["seconds"] if checkpoint else 0.0
        fit, state = self.parts.plan.fit, self._finished(checkpoint)
        if state is None:
            state, fit = self._train(checkpoint)
            seconds += time.monotonic() - started
        return self._result(state, fit, max(seconds, 1e-3))

    def _finished(self, checkpoint: Path | None) -> TrainerState | None:
        """The state of a run that had come to its end before it was cut, with its best weights put back; else None."""
        if checkpoint is None:
            return None
        patience = self.parts.config.early_stopping
        with refusing(checkpoint):
            state, weights = read_state(checkpoint), best_weights(checkpoint)
            stopped = patience and EarlyStop(patience).is_due(state.log_history)
            if state.global_step < self.parts.plan.steps and not stopped:
                return None
            put_adapter(self.parts.network, weights, checkpoint)
        return state

    def _train(self, checkpoint: Path | None) -> tuple[TrainerState, Fit]:
        """The Trainer's state at the end, and how the last update was computed."""
        parts, processes = self.parts, self.parts.processes
        view = ProgressView()
        with StopRequest() as stop:
            trainer = SentimentTrainer(
                model=parts.scorer,
                args=self._arguments(),
                train_dataset=parts.train_items,
                eval_dataset=parts.dev_items,
                callbacks=self._callbacks(stop, view),
                sampler=parts.sampler,
                micro_tokens=parts.plan.fit.micro_tokens,
                identity=self.identity,
                keep=parts.config.save_total_limit,
                rows=[row.row for row in parts.rows.train],
                processes=processes,
            )
            try:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            finally:
                view.close()
            signal = processes.any(stop.signal)
            if signal and trainer.state.global_step < parts.plan.steps:
                raise Interrupted(signal)
        trainer.restore_best()
        fit = dataclasses.replace(
            parts.plan.fit, micro_tokens=trainer.micro_tokens, checkpointing=parts.scorer.checkpointing
        )
        return trainer.state, fit

    def _callbacks(self, stop: StopRequest, view: ProgressView) -> list[TrainerCallback]:
        config, processes = self.parts.config, self.parts.processes
        callbacks: list[TrainerCallback] = [StopWhenAsked(lambda: bool(processes.any(stop.signal)))]
        if processes.is_main:
            callbacks += [self.log, view]
        callbacks.append(FinalCheckpoint())
        if config.early_stopping:
            callbacks.append(EarlyStop(config.early_stopping))
        if processes.is_main:
            callbacks += trackers(self.output_dir, config.wandb_project, config.run_name)
        return callbacks

    def _arguments(self) -> TrainingArguments:
        config, plan = self.parts.config, self.parts.plan
        precision, is_cpu = self.parts.precision.name, self.parts.device.type == "cpu"
        arguments = TrainingArguments(
            output_dir=str(self.output_dir),
            num_train_epochs=config.num_epochs,
            max_steps=plan.steps,
            per_device_train_batch_size=config.effective_batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            warmup_steps=math.ceil(config.warmup_ratio * plan.steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            eval_strategy="steps",
            eval_steps=plan.eval_steps,
            save_strategy="steps",
            save_steps=plan.eval_steps,
            logging_steps=min(config.logging_steps, plan.steps),  # a short run shows its loss too
            logging_nan_inf_filter=False,
            metric_for_best_model="accuracy",
            greater_is_better=True,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            use_cpu=is_cpu,
            dataloader_pin_memory=not is_cpu,
            ddp_backend="gloo" if is_cpu and self.parts.processes.count > 1 else None,
            label_names=["labels"],
            remove_unused_columns=False,
            seed=config.seed,
            report_to="none",
            disable_tqdm=True,
            run_name=config.run_name,
        )
        if arguments.n_gpu > 1:  # several GPUs are used by several processes (--num_processes), never by DataParallel
            arguments._n_gpu = 1
        return arguments

    def _result(self, state: TrainerState, fit: Fit, seconds: float) -> Result:
        parts, n_dev = self.parts, len(self.parts.dev_items)
        best = float(state.best_metric or 0.0)
        return {
            "dev_accuracy": best,
            "dev_accuracy_interval": list(wilson(round(best * n_dev), n_dev)),
            "n_train": len(parts.train_items),
            "n_dev": n_dev,
            "best_step": state.best_global_step,
            "steps": state.global_step,
            "seconds": round(seconds, 1),
            "reviews_per_second": round(state.global_step * parts.config.effective_batch / seconds, 3),
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 2),
            "micro_tokens": fit.micro_tokens,
            "gradient_checkpointing": fit.checkpointing,
            "estimated_seconds": round(parts.plan.seconds, 1),
            "estimated_memory_gb": round(fit.memory / 1e9, 2),
        }
