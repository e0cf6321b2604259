"""What a run will cost, and how it is cut to fit: said before it starts. Estimates, marked as such.

The choice changes how an update is computed, never what it is: any plan gives the same update up to rounding (4-bit
weights are the exception: they are another base, so they come last and are said aloud).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

import torch

from zhsenti.core.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Share of the measured GEMM peak that LoRA training reaches on two cores (docs/results/training.json).
EFFICIENCY = 0.7
# Peak over saved activations: gradients in flight and what the allocator keeps (fitted, benchmarks/training.py).
TRANSIENTS = 1.4
RUNTIME_BYTES = 1.0e9  # Python, torch, transformers, data; on a GPU its context
NF4_BYTES = 0.53  # a weight in NF4 with double quantisation (arXiv:2305.14314)
MICRO_TOKENS = {"cpu": (1536, 1024, 512, 256), "cuda": (16384, 8192, 4096, 2048, 1024, 512)}
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder that decide memory and time.

    Attributes:
        layers: How many.
        hidden: Width of a hidden state.
        queries: Width of all query heads.
        keys: Width of all key heads.
        intermediate: Width inside the MLP.
        embedding: Parameters of embedding and output layer, counted once if tied.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    intermediate: int
    embedding: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Shape:
        """The sizes in a transformers configuration."""
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        copies = 1 if config.tie_word_embeddings else 2
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads * head,
            config.num_key_value_heads * head,
            config.intermediate_size,
            config.vocab_size * config.hidden_size * copies,
        )

    def matrices(self) -> list[tuple[int, int]]:
        """(in, out) of one layer's linear layers."""
        D, Q, K, M = self.hidden, self.queries, self.keys, self.intermediate
        return [(D, Q), (D, K), (D, K), (Q, D), (D, M), (D, M), (M, D)]

    @property
    def dense(self) -> int:
        """Parameters that multiply every token."""
        return self.layers * sum(a * b for a, b in self.matrices())

    def lora(self, r: int) -> int:
        """Parameters of LoRA of rank ``r`` on all linear layers."""
        return self.layers * sum(r * (a + b) for a, b in self.matrices())


class Options(TypedDict):
    """What a fit has to hold and what it may change.

    Attributes:
        longest: Row, in tokens.
        device: Type of it, a key of ``MICRO_TOKENS``.
        weight_bytes: Of one weight of the base.
        lora_r: Rank.
        checkpointing: True: always recompute activations; False: only where needed.
        qlora: Whether the base is in 4 bits; None: only where needed.
    """

    longest: int
    device: str
    weight_bytes: int
    lora_r: int
    checkpointing: bool
    qlora: bool | None


@dataclass(frozen=True)
class Fit:
    """How an update is computed.

    Attributes:
        micro_tokens: At most as many tokens a forward pass; a longer row goes alone.
        checkpointing: Whether activations are recomputed.
        qlora: Whether the base is in 4 bits.
        memory: Estimated peak in bytes.
    """

    micro_tokens: int
    checkpointing: bool
    qlora: bool
    memory: float


def memory_bytes(
    shape: Shape, *, tokens: int, weight_bytes: int, checkpointing: bool, qlora: bool, lora_r: int
) -> float:
    """Estimated peak of one training process, in bytes.

    A layer keeps for each token its two residuals, two norms, queries, keys, values, attention output and three MLP
    activations; with checkpointing only its input, and one layer at a time is whole.

    Args:
        shape: Of the base.
        tokens: Of the largest micro-batch.
        weight_bytes: Of one weight.
        checkpointing: Whether activations are recomputed.
        qlora: Whether the base is in 4 bits.
        lora_r: Rank.
    """
    weights = shape.dense * (NF4_BYTES if qlora else weight_bytes) + shape.embedding * weight_bytes
    if qlora:
        weights += max(a * b for a, b in shape.matrices()) * weight_bytes  # one matrix unpacked
    kept = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * shape.intermediate
    layers = shape.layers * shape.hidden + kept if checkpointing else shape.layers * kept
    adapter = shape.lora(lora_r) * 16  # float32 weight, gradient and Adam's two moments
    return RUNTIME_BYTES + weights + adapter + TRANSIENTS * tokens * layers * weight_bytes


def fit_memory(shape: Shape, budget: float, **options: Unpack[Options]) -> Fit | None:
    """The fastest way to train within ``budget`` bytes, or None.

    Tried in order: smaller micro-batches, checkpointing, a 4-bit base.
    """
    return next((fit for fit in _fits(shape, **options) if fit.memory <= budget), None)


def smallest_fit(shape: Shape, **options: Unpack[Options]) -> Fit:
    """What takes least memory, whether it fits or not."""
    return min(_fits(shape, **options), key=lambda fit: fit.memory)


def _fits(shape: Shape, **options: Unpack[Options]) -> Iterator[Fit]:
    """All ways to compute an update, the fastest first."""
    qlora = options["qlora"]
    for four_bit in (False, True) if qlora is None else (qlora,):
        for recompute in (True,) if options["checkpointing"] else (False, True):
            for micro in MICRO_TOKENS[options["device"]]:
                memory = memory_bytes(
                    shape,
                    tokens=max(micro, options["longest"]),
                    weight_bytes=options["weight_bytes"],
                    checkpointing=recompute,
                    qlora=four_bit,
                    lora_r=options["lora_r"],
                )
                yield Fit(micro, recompute, four_bit, memory)


def parse_bytes(text: str) -> float:
    """``4GB``, ``3.5 GiB``, ``800MB`` in bytes.

    Raises:
        ConfigError: ``text`` is no such size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMG]?I?)B?\s*", text.upper())
    if not match or match[2] not in UNITS or float(match[1]) == 0:
        raise ConfigError("读不懂 memory_budget", expected="如 4GB、3.5GiB、800MB", found=text, todo="写成数字加单位。")
    return float(match[1]) * UNITS[match[2]]


@dataclass(frozen=True)
class Plan:
    """What a run will do and cost; most of it is printed before the start.

    Attributes:
        fit: How an update is computed.
        budget: Bytes it was cut to fit.
        trainable: Parameters that are trained.
        total: All parameters.
        steps: Updates.
        eval_steps: Updates between two evaluations, each of which ends with a checkpoint.
        seconds: Expected time (an estimate).
    """

    fit: Fit
    budget: float
    trainable: int
    total: int
    steps: int
    eval_steps: int
    seconds: float


def gemm_flops(dtype: torch.dtype, device: torch.device, size: int = 1024) -> float:
    """Peak of a dense matrix product in FLOP/s, best of five after one warm-up (about 0.1 s on a CPU)."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def training_flops(shape: Shape, tokens: int) -> float:
    """Useful work of a LoRA step in FLOP, over ``tokens``.

    Forward 2 N and input gradients 2 N a token; the frozen base has no weight gradients. LoRA's own products (a
    hundredth of it) and attention scores are left out.
    """
    return 4.0 * shape.dense * tokens


def expected_seconds(
    shape: Shape,
    *,
    train_tokens: float,
    dev_tokens: float,
    checkpointing: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> float:
    """Time of a run that trains on ``train_tokens`` (all epochs) and scores ``dev_tokens`` (all evaluations).

    Measures this machine, which draws random numbers.
    """
    flops = shape.dense * (train_tokens * (6 if checkpointing else 4) + dev_tokens * 2)
    return flops / (EFFICIENCY * gemm_flops(dtype, device))
