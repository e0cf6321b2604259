"""The live parts of a run, made in the one order that its random numbers allow. torch and transformers take seconds:
whoever imports this has checked the data before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import set_seed

from zhsenti.core.console import gigabytes
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.methods import get_method
from zhsenti.methods.base import Method, Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_config
from zhsenti.models.precision import Precision, pick_device, pick_precision
from zhsenti.models.sources import LARGE, SMALL, Default, ResolvedModel, resolve_model
from zhsenti.task import SentimentTask
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.checkpoints import Identity, read_mark
from zhsenti.training.config import TrainConfig
from zhsenti.training.identity import identity_of
from zhsenti.training.memory import QWEN_15B, Shape, parse_bytes
from zhsenti.training.plan import Fit, Options, Plan, expected_seconds, fit_memory, smallest_fit
from zhsenti.training.processes import Processes
from zhsenti.training.resources import free_memory
from zhsenti.training.rows import Rows

if TYPE_CHECKING:
    from peft import PeftModel

FREE_SHARE = 0.9  # of the free memory; the rest is for what else the machine does


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
        ModelError: There is no such base, it cannot be read, or processes have different ones.
    """
    if config.fsdp and processes.count == 1:
        raise ConfigError("--fsdp 用不上", expected="--num_processes 至少 2", todo="去掉 --fsdp。")
    device = pick_device()
    precision = pick_precision(processes.from_main(lambda: pick_precision(config.precision).name))
    model = _same_base(config, processes, lambda: _default_base(config, task, precision, device, processes.count))
    method = get_method(config.method)(task, Tokenizer(model.path))
    train_items, dev_items = (
        [method.encode(row.text, row.label, row.aspect) for row in part] for part in (rows.train, rows.dev)
    )
    lengths, dev_lengths = _lengths(train_items), _lengths(dev_items)

    shape, longest = Shape.of(load_config(model.path)), max(lengths + dev_lengths)
    # Free memory is another number in each process, and differs from one moment to the next: process 0 decides.
    options = _options(config, lengths, longest, precision, device, processes.count)
    budget, fit = processes.from_main(lambda: _fit(config, shape, device, processes.count, options))
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


def _same_base(config: TrainConfig, processes: Processes, default: Callable[[], Default]) -> ResolvedModel:
    """The base, which is the same one in every process; each reads it from a folder of its own.

    What ``auto`` is goes by the card and by which sources answer, so process 0 decides it. All fetch at the same time:
    nobody waits longer for another's download than for its own.

    Raises:
        ModelError: It cannot be had, or what processes have under its name is not the same.
    """
    wanted = processes.from_main(default) if config.model_name == "auto" else None
    mine = resolve_model(config.model_name, default=wanted)
    chosen = processes.from_main(lambda: mine)
    if config.model_name == "auto" and mine.model_id != chosen.model_id:
        mine = resolve_model(chosen.model_id)
    if mine.revision != chosen.revision:
        raise ModelError(
            f"各进程的基座 {chosen.model_id} 不是同一份权重",
            expected=f"{chosen.revision[:16]}…（第 0 个进程，{chosen.source}）",
            found=f"{mine.revision[:16]}…（第 {processes.rank} 个进程，{mine.source}：{mine.path}）",
            todo="删掉旧的那一份，或用 --model_name 给出同一个文件夹。",
        )
    return dataclasses.replace(chosen, path=mine.path)


def _default_base(
    config: TrainConfig, task: SentimentTask, precision: Precision, device: torch.device, processes: int
) -> Default:
    """What ``auto`` is: 1.5B where there is a way to train it on this GPU, be it in 4 bits; and why (Chinese)."""
    if device.type == "cpu":
        return SMALL, "没有显卡，默认 0.5B"
    lengths = [task.max_length] * config.effective_batch  # rows are not encoded yet: that takes the base's tokenizer
    options = _options(config, lengths, task.max_length, precision, device, processes)
    needed, budget = smallest_fit(QWEN_15B, **options).memory, _budget(config, device, processes)
    why = f"训练 1.5B 的显存至少约 {gigabytes(needed)}（估算），可用 {gigabytes(budget)}"
    return (LARGE, f"{why}，默认 1.5B") if needed <= budget else (SMALL, f"{why}，默认 0.5B")


def _options(
    config: TrainConfig,
    lengths: Sequence[int],
    longest: int,
    precision: Precision,
    device: torch.device,
    processes: int,
) -> Options:
    """What a fit has to hold, with rows to train on of these ``lengths``."""
    update = sorted(lengths, reverse=True)[: config.effective_batch]
    return {
        "longest": longest,
        "update": max(longest, sum(update[::processes])),  # process 0's share, which is the largest
        "device": device.type,
        "weight_bytes": precision.dtype.itemsize,
        "lora_r": config.lora_r,
        "checkpointing": config.gradient_checkpointing,
        "qlora": config.use_qlora,
    }


def _budget(config: TrainConfig, device: torch.device, processes: int) -> float:
    """Bytes that training may take: what the user says, else most of what is free."""
    if config.memory_budget:
        return parse_bytes(config.memory_budget)
    # GPUs are one a process; a machine's memory is for all
    return FREE_SHARE * free_memory(device) / (processes if device.type == "cpu" else 1)


def _fit(
    config: TrainConfig, shape: Shape, device: torch.device, processes: int, options: Options
) -> tuple[float, Fit]:
    """The memory budget in bytes and how training fits it.

    Raises:
        ConfigError: Nothing fits the budget that the user gave.
    """
    budget = _budget(config, device, processes)
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
