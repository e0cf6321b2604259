"""The live parts of a run, made in the one order that its random numbers allow. torch and transformers take seconds:
whoever imports this has checked the data before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import set_seed

from zhsenti.core.errors import ConfigError
from zhsenti.methods import get_method
from zhsenti.methods.base import Method, Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_config
from zhsenti.models.precision import Precision, pick_device, pick_precision
from zhsenti.models.sources import ResolvedModel, resolve_model
from zhsenti.task import SentimentTask
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.checkpoints import Identity, read_mark
from zhsenti.training.config import TrainConfig
from zhsenti.training.identity import identity_of
from zhsenti.training.plan import Fit, Options, Plan, Shape, expected_seconds, fit_memory, parse_bytes, smallest_fit
from zhsenti.training.processes import Processes
from zhsenti.training.resources import free_memory
from zhsenti.training.rows import Rows

if TYPE_CHECKING:
    from peft import PeftModel

CPU_SHARE = 0.9  # of the free memory; the rest is for what else the machine does


@dataclass(frozen=True)
class Parts:
    """What a run is made of. Only the network changes while it trains.

    Attributes:
        config: The settings.
        rows: What is read.
        processes: Who trains together.
        device: Where.
        precision: In which numbers.
        method: Of the network.
        scorer: Method and network as one module, its LoRA weights fresh.
        base: Where the frozen weights came from, as the manifest will say it.
        train_items: The rows to train on, encoded, in their order.
        dev_items: The dev rows likewise.
        sampler: Which reviews share an update.
        plan: How an update is computed, and what the run will cost.
    """

    config: TrainConfig
    rows: Rows
    processes: Processes
    device: torch.device
    precision: Precision
    method: Method
    scorer: Scorer
    base: dict[str, str | bool]
    train_items: list[Encoded]
    dev_items: list[Encoded]
    sampler: LengthBucketSampler
    plan: Plan

    @property
    def network(self) -> PeftModel:
        """The base with its LoRA."""
        return cast("PeftModel", self.scorer.network)

    @property
    def identity(self) -> Identity:
        """What may not change between this run and its resumption."""
        decided = {
            "precision": self.precision.name,
            "use_qlora": self.plan.fit.qlora,
            "processes": self.processes.count,
        }
        base = str(self.base["revision"])
        return identity_of(self.config, self.method.task, decided, data=self.rows.sha256, base=base)

    def going_on_from(self, checkpoint: Path) -> Parts:
        """The same parts with the checkpoint's micro-batches, so that sums are rounded as before."""
        if self.config.memory_budget:  # the user decides
            return self
        fit = dataclasses.replace(self.plan.fit, micro_tokens=read_mark(checkpoint)["micro_tokens"])
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, fit=fit))


def prepare(config: TrainConfig, task: SentimentTask, rows: Rows, processes: Processes) -> Parts:
    """Find the base, encode the rows, plan, and build the network. Nothing is written.

    Raises:
        ConfigError: Settings that do not go together, or a memory budget that is too small.
        ModelError: There is no such base, or it cannot be read.
    """
    if config.fsdp and processes.count == 1:
        raise ConfigError("--fsdp 用不上", expected="--num_processes 至少 2", todo="去掉 --fsdp。")
    precision, device = pick_precision(config.precision), pick_device()
    model = resolve_model(config.model_name)
    method = get_method(config.method)(task, Tokenizer(model.path))
    train_items, dev_items = (
        [method.encode(row.text, row.label, row.aspect) for row in part] for part in (rows.train, rows.dev)
    )
    lengths, dev_lengths = _lengths(train_items), _lengths(dev_items)

    shape, longest = Shape.of(load_config(model.path)), max(lengths + dev_lengths)
    # Free memory is another number in each process, and differs from one moment to the next: process 0 decides.
    budget, fit = processes.from_main(lambda: _fit(config, shape, longest, precision, device, processes.count))
    if config.fsdp and fit.qlora:
        raise ConfigError("--fsdp 用不上", expected="16 或 32 位的基座", found="4 比特基座", todo="去掉 --fsdp。")

    scorer = _build(config, method, model, precision, fit)
    sampler = LengthBucketSampler(lengths, config.batch_size, config.gradient_accumulation_steps, config.seed)
    steps = max(1, math.ceil(len(sampler) * config.num_epochs))
    eval_steps = min(config.eval_steps or len(sampler), steps)
    parameters = list(scorer.network.parameters())
    processes.copy_from_main([p for p in parameters if p.requires_grad])
    if config.fsdp:
        scorer.shard_base(processes.count)
    seconds = expected_seconds(
        shape,
        train_tokens=sum(lengths) * config.num_epochs,
        dev_tokens=sum(dev_lengths) * math.ceil(steps / eval_steps),
        checkpointing=fit.checkpointing,
        dtype=precision.dtype,
        device=device,
    )
    trainable, total = sum(p.numel() for p in parameters if p.requires_grad), sum(map(_weights_in, parameters))
    plan = Plan(
        fit, budget, trainable, total, steps, eval_steps, seconds / (processes.count if device.type == "cuda" else 1)
    )
    base = _base(model, precision, fit)
    return Parts(
        config, rows, processes, device, precision, method, scorer, base, train_items, dev_items, sampler, plan
    )


def _fit(
    config: TrainConfig, shape: Shape, longest: int, precision: Precision, device: torch.device, processes: int
) -> tuple[float, Fit]:
    """The memory budget in bytes and how training fits it.

    Raises:
        ConfigError: Nothing fits the budget that the user gave.
    """
    if config.memory_budget:
        budget = parse_bytes(config.memory_budget)
    else:  # GPUs are one a process; a machine's memory is for all
        budget = CPU_SHARE * free_memory(device) / (processes if device.type == "cpu" else 1)
    options: Options = {
        "longest": longest,
        "device": device.type,
        "weight_bytes": precision.dtype.itemsize,
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


def _build(config: TrainConfig, method: Method, model: ResolvedModel, precision: Precision, fit: Fit) -> Scorer:
    set_seed(config.seed)  # before the LoRA weights are drawn
    lora = LoraOptions(config.lora_r, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
    scorer = method.build(model.path, precision, lora=lora, use_qlora=fit.qlora)
    # What is saved names the model, not the folder that this machine keeps it in.
    cast("PeftModel", scorer.network).peft_config["default"].base_model_name_or_path = model.model_id
    if fit.checkpointing:
        scorer.enable_checkpointing()
    return scorer


def _base(model: ResolvedModel, precision: Precision, fit: Fit) -> dict[str, str | bool]:
    return {
        "requested": model.requested,
        "model_id": model.model_id,
        "source": model.source,
        "revision": model.revision,
        "reason": model.reason,
        "precision": precision.name,
        "use_qlora": fit.qlora,
    }


def _lengths(items: Iterable[Encoded]) -> list[int]:
    return [len(item.ids) for item in items]


def _weights_in(parameter: torch.Tensor) -> int:
    """How many weights a tensor holds; a 4-bit one packs two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()
