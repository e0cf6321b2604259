"""How fast does it train? In turns with transformers Trainer + PEFT, as the reference recipe has it and at its best.

zhsenti        the product's Trainer, 16 reviews an update, as its defaults have it
reference      rows padded to max_length, loss over the whole vocabulary, batches of 8, two of them an update
zhsenti_32     32 reviews an update
reference_best rows of like length padded to the longest of each batch of 32, an update each

Useful work of a real (unpadded) token is the frozen weights' forward and input gradients, 4 N FLOP, and the adapter's
6 n; padding, attention scores and the vocabulary's logits are left out. The peak is a product's in the same process.
"""

from __future__ import annotations

from typing import Any

import torch
from textbook import SEED, Watch, sentiment_trainer, training_arguments

from gpu_sections.measure import Peak, bytes_of, free_memory_of_this_process, gemm_peak
from gpu_sections.networks import RANK, random_network, scorer_of, trained
from gpu_sections.options import Options, say
from gpu_sections.outcomes import BATCH, textbook_trainer
from gpu_sections.reviews import items_of, stand_in_method
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.memory import Shape
from zhsenti.training.plan import training_flops

UPDATE_SIZES = {"zhsenti": 16, "reference": 16, "zhsenti_32": 32, "reference_best": 32}
Updates = list[list[int]]


def training(device: torch.device, options: Options) -> dict[str, Any]:
    """Reviews and real tokens a second, share of the peak, and peak memory; 1.5B, then 0.5B."""
    details = {}
    for name, share in (("1.5b", 0.65), ("0.5b", 1.0)):
        if options.allows(f"{name} 的训练速度", 25):
            details[name] = options.attempt(
                f"{name} 的训练速度", lambda name=name, share=share: _Turns(name, device, options).run(share)
            )
            free_memory_of_this_process(device)
    options.target("training_1.5b_speedup_vs_reference", 3.0)
    options.target("training_1.5b_speedup_vs_reference_best", 1.3)
    options.target("training_1.5b_share_of_gemm_peak", 0.4)
    return details


class _Turns:
    """One network, trained by each system in turn; which weights they come to does not matter for time."""

    def __init__(self, name: str, device: torch.device, options: Options) -> None:
        self.name, self.device, self.options = name, device, options
        self.size = options.scale.sizes[name]
        method = stand_in_method(self.size.vocab, options.scale.max_length)
        self.items = items_of(method, options.lengths)
        network = random_network(self.size, options.precision.dtype, device)
        self.scorer: Scorer = scorer_of(network, method)
        lengths = [len(item.ids) for item in self.items]
        self.updates: dict[int, Updates] = {
            16: list(LengthBucketSampler(lengths, BATCH, 2, SEED)),
            32: list(LengthBucketSampler(lengths, 2 * 16, 1, SEED)),
        }
        self.seconds, self.tokens, self.reviews = (dict.fromkeys(UPDATE_SIZES, 0.0) for _ in range(3))
        self.turn_rates: dict[str, list[float]] = {s: [] for s in UPDATE_SIZES}

    def run(self, share: float) -> dict[str, Any]:
        """The turns that fit in ``share`` of the section's time that is left."""
        scale, time = self.options.scale, self.options.deadline.part(share)
        peak = gemm_peak(self.options.precision.dtype, self.device, scale.gemm)
        memory = {system: self._warm_up(system) for system in UPDATE_SIZES}
        for turn in range(scale.turns):
            if turn and not time.allows(self.longest_turn(), f"{self.name} 的第 {turn + 1} 轮"):
                break
            for system in UPDATE_SIZES:
                self._turn(system, turn)
        self.options.deadline.skipped += time.skipped
        peak = (peak + gemm_peak(self.options.precision.dtype, self.device, scale.gemm)) / 2
        return self._figures(peak, memory)

    def longest_turn(self) -> float:
        """Seconds that another turn of all systems may take."""
        return 1.2 * sum(self.seconds.values()) / max(1, len(self.turn_rates["zhsenti"]))

    def _updates_of(self, system: str, turn: int) -> Updates:
        """Other reviews each turn, the same for systems with updates of the same size; the first ones warm up."""
        updates, count = self.updates[UPDATE_SIZES[system]], self.options.scale.turn
        start = (1 + turn) * count
        return [updates[n % len(updates)] for n in range(start, start + count)]

    def _train(self, system: str, updates: Updates) -> float:
        watch, precision = Watch(), self.options.precision
        if system.startswith("zhsenti"):
            arguments = training_arguments(
                len(updates), max(map(len, updates)), 1, precision, logging_steps=len(updates)
            )
            sentiment_trainer(self.scorer, self.items, updates, precision, args=arguments, callbacks=[watch]).train()
        else:
            is_best = system == "reference_best"
            width = None if is_best else self.scorer.method.task.max_length + 1
            trainer = textbook_trainer(self.scorer, self.items, updates, precision, watch,
                                       size=32 if is_best else BATCH, width=width)  # fmt: skip
            trainer.train()
        return watch.seconds

    def _warm_up(self, system: str) -> float:
        """Two untimed updates, the one with the longest review among them; their peak memory in bytes."""
        updates = self.updates[UPDATE_SIZES[system]]
        longest = max(updates, key=lambda update: max(len(self.items[i].ids) for i in update))
        free_memory_of_this_process(self.device)
        with Peak(self.device, bytes_of(self.scorer)) as memory:
            self._train(system, [longest, updates[0]])
        return memory.peak

    def _turn(self, system: str, turn: int) -> None:
        updates = self._updates_of(system, turn)
        seconds = self._train(system, updates)
        reviews: list[Encoded] = [self.items[i] for update in updates for i in update]
        self.seconds[system] += seconds
        self.tokens[system] += sum(len(item.ids) for item in reviews)
        self.reviews[system] += len(reviews)
        self.turn_rates[system].append(len(reviews) / seconds)
        say(f"{self.name} {system:14} 第 {turn + 1} 轮：{len(reviews) / seconds:.1f} 条/秒")

    def _figures(self, peak: float, memory: dict[str, float]) -> dict[str, Any]:
        figures, prefix = self.options.figures, f"training_{self.name}"
        shape = Shape.of(self.size.configuration())
        rate = {system: self.reviews[system] / self.seconds[system] for system in UPDATE_SIZES}
        for system, value in rate.items():
            figures[f"{prefix}_{system}_reviews_per_s"] = value
            figures[f"{prefix}_{system}_tokens_per_s"] = self.tokens[system] / self.seconds[system]
            figures[f"{prefix}_{system}_peak_memory_gb"] = memory[system] / 1e9
        tokens, seconds = int(self.tokens["zhsenti"]), self.seconds["zhsenti"]
        useful = training_flops(shape, tokens) + 6.0 * shape.lora(RANK) * tokens
        figures[f"{prefix}_gemm_peak_tflops"] = peak / 1e12
        figures[f"{prefix}_share_of_gemm_peak"] = useful / seconds / peak
        figures[f"{prefix}_speedup_vs_reference"] = rate["zhsenti"] / rate["reference"]
        figures[f"{prefix}_speedup_vs_reference_best"] = rate["zhsenti_32"] / rate["reference_best"]
        return {
            "reviews_per_s_of_turns": self.turn_rates,
            "updates_a_turn": self.options.scale.turn,
            "mean_tokens": sum(self.tokens.values()) / sum(self.reviews.values()),
            "trained_parameters": sum(p.numel() for _, p in trained(self.scorer)),
            "memory_is": "分配器的峰值" if self.device.type == "cuda" else "同时活着的张量字节数的峰值",
        }
