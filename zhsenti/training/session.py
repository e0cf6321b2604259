"""A run's live objects: model, encoded rows, Trainer. Imported late: torch and transformers take seconds."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import binomtest
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed

from zhsenti.config import TrainConfig
from zhsenti.data.sources import Example
from zhsenti.labels import SentimentTask
from zhsenti.methods import get_method
from zhsenti.models.backbone import LoraOptions, load_tokenizer, pick_device, pick_precision, unwrap
from zhsenti.models.sources import resolve_model
from zhsenti.training.checkpoints import check_same_run, find_checkpoint
from zhsenti.training.loop import (
    FinalCheckpoint,
    ProgressView,
    ResultsLog,
    SentimentTrainer,
    accuracy,
    peak_memory_bytes,
)
from zhsenti.training.plan import make_plan
from zhsenti.training.tracking import trackers


class Session:
    """Everything a run needs in memory; ``run`` trains and returns the result summary."""

    def __init__(
        self,
        config: TrainConfig,
        task: SentimentTask,
        method_name: str,
        train_rows: list[Example],
        dev_rows: list[Example],
    ) -> None:
        self.config, self.train_rows, self.dev_rows = config, train_rows, dev_rows
        self.precision, self.device = pick_precision(config.precision), pick_device()
        model = resolve_model(config.model_name)
        self.base: dict[str, Any] = {
            "requested": model.requested,
            "model_id": model.model_id,
            "source": model.source,
            "revision": model.revision,
            "reason": model.reason,
            "precision": self.precision.name,
            "use_qlora": config.use_qlora,
        }
        tokenizer = load_tokenizer(model.path)
        self.method = get_method(method_name)(task, tokenizer)
        self.train_items = [self.method.encode(row.text, row.label, row.aspect) for row in train_rows]
        self.dev_items = [self.method.encode(row.text, row.label, row.aspect) for row in dev_rows]

        set_seed(config.seed)  # before the LoRA weights are drawn
        lora = LoraOptions(config.lora_r, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
        self.scorer = self.method.build(model.path, self.precision, lora=lora, use_qlora=config.use_qlora)
        network: Any = self.scorer.network
        self.network = network
        network.peft_config["default"].base_model_name_or_path = model.model_id
        if config.gradient_checkpointing:
            network.enable_input_require_grads()
            unwrap(self.network).activation_checkpointing_enable({"use_reentrant": False})

        self.effective_batch = config.batch_size * config.gradient_accumulation_steps
        self.steps_per_epoch = math.ceil(
            math.ceil(len(train_rows) / config.batch_size) / config.gradient_accumulation_steps
        )
        self.total_steps = max(1, math.ceil(self.steps_per_epoch * config.num_epochs))
        self.eval_steps = min(config.eval_steps or self.steps_per_epoch, self.total_steps)
        lengths = {"train": [len(i.ids) for i in self.train_items], "dev": [len(i.ids) for i in self.dev_items]}
        self.mean_length = sum(lengths["train"]) / len(lengths["train"])
        steps = {
            "total": self.total_steps,
            "epochs": config.num_epochs,
            "evaluations": math.ceil(self.total_steps / self.eval_steps),
            "batch_size": config.batch_size,
        }
        self.plan = make_plan(self.network, lengths, steps, config.gradient_checkpointing)

    def find_checkpoint(self, wanted: str, output_dir: Path, identity: dict[str, Any]) -> tuple[Path | None, list[str]]:
        checkpoint, notes = find_checkpoint(wanted, output_dir)
        if checkpoint is not None:
            check_same_run(checkpoint, identity)
        return checkpoint, notes

    def run(
        self, output_dir: Path, checkpoint: Path | None, identity: dict[str, Any], console: Console
    ) -> dict[str, Any]:
        config = self.config
        self.log = ResultsLog(output_dir / "train_results.json")
        callbacks = [
            self.log,
            ProgressView(),
            FinalCheckpoint(),
            *trackers(output_dir, config.wandb_project, config.run_name, lambda line: console.print(f"  {line}")),
        ]
        if config.early_stopping:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.early_stopping))
        trainer = SentimentTrainer(
            model=self.scorer,
            args=self._arguments(output_dir),
            train_dataset=self.train_items,
            eval_dataset=self.dev_items,
            compute_metrics=accuracy,
            callbacks=callbacks,
            identity=identity,
            keep=config.save_total_limit,
        )
        self.log.write(
            "resume" if checkpoint else "start", checkpoint=str(checkpoint) if checkpoint else None, **identity
        )
        started, first_step = time.monotonic(), _step_of(checkpoint)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.monotonic() - started

        best = float(trainer.state.best_metric or 0.0)
        correct = round(best * len(self.dev_items))
        interval = binomtest(correct, len(self.dev_items)).proportion_ci(method="wilson")
        reviews = (trainer.state.global_step - first_step) * self.effective_batch
        return {
            "dev_accuracy": best,
            "dev_accuracy_interval": [float(interval.low), float(interval.high)],
            "n_train": len(self.train_items),
            "n_dev": len(self.dev_items),
            "best_step": trainer.state.best_global_step,
            "steps": trainer.state.global_step,
            "seconds": round(seconds, 1),
            "reviews_per_second": round(reviews / seconds, 3),
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 2),
            "estimated_seconds": round(self.plan.seconds, 1),
            "estimated_memory_gb": round(self.plan.memory_bytes / 1e9, 2),
        }

    def _arguments(self, output_dir: Path) -> TrainingArguments:
        config = self.config
        return TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=config.num_epochs,
            max_steps=self.total_steps,
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=config.batch_size * 2,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            warmup_steps=math.ceil(config.warmup_ratio * self.total_steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            eval_strategy="steps",
            eval_steps=self.eval_steps,
            save_strategy="steps",
            save_steps=self.eval_steps,
            logging_steps=min(config.logging_steps, self.total_steps),  # a short run shows its loss too
            logging_nan_inf_filter=False,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            greater_is_better=True,
            restore_callback_states_from_checkpoint=bool(config.early_stopping),
            bf16=self.precision.name == "bf16",
            fp16=self.precision.name == "fp16",
            use_cpu=self.device.type == "cpu",
            dataloader_pin_memory=self.device.type == "cuda",
            ddp_find_unused_parameters=False,
            label_names=["labels"],
            remove_unused_columns=False,
            seed=config.seed,
            report_to="none",
            disable_tqdm=True,
            run_name=config.run_name,
        )


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1]) if checkpoint else 0
