"""A run's live objects: model, encoded rows, Trainer. Imported late: torch and transformers take seconds."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import binomtest
from transformers import TrainerCallback, TrainerState, TrainingArguments, set_seed

from zhsenti.core.errors import ConfigError, Interrupted
from zhsenti.data.split import Example
from zhsenti.methods import get_method
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_config, unwrap
from zhsenti.models.decoder import is_known
from zhsenti.models.precision import pick_device, pick_precision
from zhsenti.models.sources import resolve_model
from zhsenti.task import SentimentTask
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.callbacks import EarlyStop, FinalCheckpoint, ProgressView, ResultsLog, StopWhenAsked
from zhsenti.training.checkpoints import check_same_run, checkpoints, find_checkpoint, read_mark
from zhsenti.training.config import TrainConfig
from zhsenti.training.interrupts import StopRequest, check_space
from zhsenti.training.loop import SentimentTrainer, peak_memory_bytes
from zhsenti.training.plan import Fit, Plan, Shape, expected_seconds, fit_memory, free_memory, parse_bytes, smallest_fit
from zhsenti.training.processes import Processes
from zhsenti.training.restore import best_weights, put_adapter, read_state, refusing
from zhsenti.training.tracking import trackers

BYTES_OF_TRAINED_WEIGHT = 16  # in a checkpoint: float32 weight, best weight so far, Adam's two moments


class Session:
    """Everything a run needs in memory; ``run`` trains and returns the result summary."""

    def __init__(
        self,
        config: TrainConfig,
        task: SentimentTask,
        train_rows: list[Example],
        dev_rows: list[Example],
        processes: Processes,
    ) -> None:
        self.config, self.train_rows, self.dev_rows, self.processes = config, train_rows, dev_rows, processes
        if config.fsdp and processes.count == 1:
            raise ConfigError("--fsdp 用不上", expected="--num_processes 至少 2", todo="去掉 --fsdp。")
        self.precision, self.device = pick_precision(config.precision), pick_device()
        model = resolve_model(config.model_name)
        tokenizer = Tokenizer(model.path)
        self.method = get_method(config.method)(task, tokenizer)
        self.train_items = [self.method.encode(row.text, row.label, row.aspect) for row in train_rows]
        self.dev_items = [self.method.encode(row.text, row.label, row.aspect) for row in dev_rows]
        lengths, dev_lengths = ([len(item.ids) for item in items] for items in (self.train_items, self.dev_items))
        self.mean_length = sum(lengths) / len(lengths)

        shape = Shape.of(load_config(model.path))
        # Free memory is another number in each process, and differs from one moment to the next: process 0 decides.
        budget, fit = processes.from_main(lambda: self._fit(shape, max(lengths + dev_lengths)))
        if config.fsdp and fit.qlora:
            raise ConfigError("--fsdp 用不上", expected="16 或 32 位的基座", found="4 比特基座", todo="去掉 --fsdp。")
        self.base = {
            "requested": model.requested,
            "model_id": model.model_id,
            "source": model.source,
            "revision": model.revision,
            "reason": model.reason,
            "precision": self.precision.name,
            "use_qlora": fit.qlora,
        }

        set_seed(config.seed)  # before the LoRA weights are drawn
        lora = LoraOptions(config.lora_r, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
        self.scorer = self.method.build(model.path, self.precision, lora=lora, use_qlora=fit.qlora)
        network: Any = self.scorer.network
        self.network = network
        network.peft_config["default"].base_model_name_or_path = model.model_id
        if fit.checkpointing:
            self.scorer.enable_checkpointing()

        self.sampler = LengthBucketSampler(lengths, config.batch_size, config.gradient_accumulation_steps, config.seed)
        self.effective_batch = config.batch_size * config.gradient_accumulation_steps
        self.total_steps = max(1, math.ceil(len(self.sampler) * config.num_epochs))
        self.eval_steps = min(config.eval_steps or len(self.sampler), self.total_steps)
        parameters = list(network.parameters())
        processes.copy_from_main([p for p in parameters if p.requires_grad])
        if config.fsdp:
            self.scorer.shard_base(processes.count)
        self.plan = Plan(
            fit,
            budget,
            sum(p.numel() for p in parameters if p.requires_grad),
            sum(_numel(p) for p in parameters),
            self.total_steps,
            expected_seconds(
                shape,
                train_tokens=sum(lengths) * config.num_epochs,
                dev_tokens=sum(dev_lengths) * math.ceil(self.total_steps / self.eval_steps),
                checkpointing=fit.checkpointing,
                dtype=self.precision.dtype,
                device=self.device,
            )
            / (processes.count if self.device.type == "cuda" else 1),
        )

    def _fit(self, shape: Shape, longest: int) -> tuple[float, Fit]:
        """The memory budget and how training fits it. Raises ConfigError when a budget given is too small."""
        config, device = self.config, self.device.type
        if config.memory_budget:
            budget = parse_bytes(config.memory_budget)
        else:  # GPUs are one a process; a machine's memory is for all
            budget = 0.9 * free_memory(self.device) / (self.processes.count if device == "cpu" else 1)
        options: dict[str, Any] = {
            "longest": longest,
            "device": device,
            "weight_bytes": self.precision.dtype.itemsize,
            "lora_r": config.lora_r,
            "checkpointing": config.gradient_checkpointing,
            "qlora": config.use_qlora,
        }
        fit = fit_memory(shape, budget, **options)
        if fit is not None:
            return budget, fit
        least = smallest_fit(shape, **options)
        if config.memory_budget:
            raise ConfigError(
                f"{config.memory_budget} 内存放不下这次训练",
                expected=f"至少约 {least.memory / 1e9:.1f} GB（估算）",
                todo="加大 --memory_budget，减小 --max_length，或换小一号的基座。",
            )
        return budget, least

    def find_checkpoint(self, wanted: str, output_dir: Path, identity: dict[str, Any]) -> tuple[Path | None, list[str]]:
        """As ``find_checkpoint``; one that is taken is of this very run. Raises TrainingError where it is not."""
        checkpoint, notes = self.processes.from_main(lambda: find_checkpoint(wanted, output_dir))
        if checkpoint is not None:
            check_same_run(checkpoint, identity)
            if not self.config.memory_budget:
                fit = dataclasses.replace(self.plan.fit, micro_tokens=int(read_mark(checkpoint)["micro_tokens"]))
                self.plan = dataclasses.replace(self.plan, fit=fit)
        return checkpoint, notes

    def check_space(self, output_dir: Path) -> None:
        """Raises TrainingError when the disk cannot hold what this run will write."""
        folders = self.config.save_total_limit + 2  # one more while the next is written, and the adapter
        goes_on = (
            self.config.resume_from_checkpoint != "none"
        )  # a new run keeps the old one's checkpoints beside its own
        there = checkpoints(output_dir) if goes_on else []
        check_space(output_dir, folders * BYTES_OF_TRAINED_WEIGHT * self.plan.trainable, there)

    def notices(self) -> list[str]:
        """Chinese lines the user should read before this run starts."""
        lines, fit = self.method.notices(), self.plan.fit
        if fit.qlora and self.config.use_qlora is None:
            lines.append(
                "内存放不下 16 位的基座，改用 4 比特基座：结果会与不量化的略有不同。"
                "不想量化，请加大 --memory_budget、换小一号的基座，或加 --use_qlora false。"
            )
        if fit.memory > self.plan.budget:
            lines.append(
                f"估计要 {fit.memory / 1e9:.1f} GB，空闲只有 {self.plan.budget / 1e9:.1f} GB，可能中途内存不足；"
                "可减小 --max_length 或换小一号的基座。"
            )
        if not is_known(unwrap(self.network).model):
            lines.append("这一类模型没有快速实现，走 transformers 的通用路径：慢一些，内存多一些。")
        elif self.config.fsdp:
            lines.append("基座分到各进程（FSDP），走 transformers 的通用路径：慢一些，激活占的内存比估计多。")
        elif self.config.lora_dropout > 0:
            lines.append("lora_dropout 大于 0 时走通用路径：慢约一半，内存可达估计的数倍。")
        return lines

    def run(
        self, output_dir: Path, checkpoint: Path | None, identity: dict[str, Any], console: Console
    ) -> dict[str, Any]:
        """Train to the end, with the best weights in the network then; the result's summary.

        Raises Interrupted after a signal, when the step is done and saved, and TrainingError when the run cannot go on.
        """
        self.log = ResultsLog(output_dir / "train_results.json" if self.processes.is_main else None)
        self.log.write(
            "resume" if checkpoint else "start", checkpoint=str(checkpoint) if checkpoint else None, **identity
        )
        started, before = time.monotonic(), float(read_mark(checkpoint)["seconds"]) if checkpoint else 0.0
        state = self._finished(checkpoint)
        if state is None:
            state = self._train(output_dir, checkpoint, identity, console)
            before += time.monotonic() - started
        seconds = max(before, 1e-3)

        best = float(state.best_metric or 0.0)
        correct = round(best * len(self.dev_items))
        interval = binomtest(correct, len(self.dev_items)).proportion_ci(method="wilson")
        return {
            "dev_accuracy": best,
            "dev_accuracy_interval": [float(interval.low), float(interval.high)],
            "n_train": len(self.train_items),
            "n_dev": len(self.dev_items),
            "best_step": state.best_global_step,
            "steps": state.global_step,
            "seconds": round(seconds, 1),
            "reviews_per_second": round(state.global_step * self.effective_batch / seconds, 3),
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 2),
            "micro_tokens": self.plan.fit.micro_tokens,
            "gradient_checkpointing": self.plan.fit.checkpointing,
            "estimated_seconds": round(self.plan.seconds, 1),
            "estimated_memory_gb": round(self.plan.fit.memory / 1e9, 2),
        }

    def _finished(self, checkpoint: Path | None) -> TrainerState | None:
        """The state of a run that had come to its end before it was cut, with its best weights put back; else None."""
        if checkpoint is None:
            return None
        with refusing(checkpoint):
            state, weights = read_state(checkpoint), best_weights(checkpoint)
            stopped = self.config.early_stopping and EarlyStop(self.config.early_stopping).is_due(state.log_history)
            if state.global_step < self.total_steps and not stopped:
                return None
            put_adapter(self.network, weights, checkpoint)
        return state

    def _train(
        self, output_dir: Path, checkpoint: Path | None, identity: dict[str, Any], console: Console
    ) -> TrainerState:
        config, processes = self.config, self.processes

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        with StopRequest() as stop:
            callbacks: list[TrainerCallback] = [StopWhenAsked(lambda: bool(processes.any(stop.signal)))]
            if processes.is_main:
                callbacks += [self.log, ProgressView()]
            callbacks.append(FinalCheckpoint())
            if config.early_stopping:
                callbacks.append(EarlyStop(config.early_stopping))
            if processes.is_main:
                callbacks += trackers(output_dir, config.wandb_project, config.run_name, lambda line: say(f"  {line}"))
            trainer = SentimentTrainer(
                model=self.scorer,
                args=self._arguments(output_dir),
                train_dataset=self.train_items,
                eval_dataset=self.dev_items,
                callbacks=callbacks,
                sampler=self.sampler,
                micro_tokens=self.plan.fit.micro_tokens,
                identity=identity,
                keep=config.save_total_limit,
                rows=[row.row for row in self.train_rows],
                processes=processes,
                say=say,
            )
            try:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            finally:
                for callback in callbacks:
                    if isinstance(callback, ProgressView):
                        callback.bar.stop()
            fit = dataclasses.replace(
                self.plan.fit, micro_tokens=trainer.micro_tokens, checkpointing=self.scorer.checkpointing
            )
            self.plan = dataclasses.replace(self.plan, fit=fit)
            unfinished = trainer.state.global_step < self.total_steps
            signal = processes.any(stop.signal)
            if signal and unfinished:
                raise Interrupted(signal)
        trainer.restore_best()
        return trainer.state

    def _arguments(self, output_dir: Path) -> TrainingArguments:
        config = self.config
        arguments = TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=config.num_epochs,
            max_steps=self.total_steps,
            per_device_train_batch_size=self.effective_batch,
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
            metric_for_best_model="accuracy",
            greater_is_better=True,
            bf16=self.precision.name == "bf16",
            fp16=self.precision.name == "fp16",
            use_cpu=self.device.type == "cpu",
            dataloader_pin_memory=self.device.type == "cuda",
            ddp_backend="gloo" if self.processes.count > 1 and self.device.type == "cpu" else None,
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


def _numel(parameter: Any) -> int:
    """Weights in a tensor; a 4-bit one packs two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()
