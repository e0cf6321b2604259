"""What training holds in memory: the sizes of a decoder that decide it, and estimates from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zhsenti.core.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Peak over saved activations on a CPU: gradients in flight, what the allocator keeps (fitted, benchmarks/training.py).
TRANSIENTS = 1.4
RUNTIME_BYTES = 1.0e9  # Python, torch, transformers, data
# Workspaces and rounding of blocks. The context is in no free memory that a GPU reports, so it is not counted here.
GPU_RUNTIME_BYTES = 0.3e9
NF4_BYTES = 0.53  # a weight in NF4 with double quantisation (arXiv:2305.14314)
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


# As published, embedding tied: what ``auto`` takes where it can be trained.
QWEN_15B = Shape(28, 1536, 1536, 256, 8960, 151936 * 1536)


def memory_bytes(
    shape: Shape, *, tokens: int, weight_bytes: int, checkpointing: bool, qlora: bool, lora_r: int
) -> float:
    """Estimated peak of one training process on a CPU, in bytes.

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
    weights, adapter = _held(shape, weight_bytes, qlora, lora_r)
    kept = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * shape.intermediate
    layers = shape.layers * shape.hidden + kept if checkpointing else shape.layers * kept
    return RUNTIME_BYTES + weights + adapter + TRANSIENTS * tokens * layers * weight_bytes


def gpu_memory_bytes(
    shape: Shape, *, tokens: int, weight_bytes: int, checkpointing: bool, qlora: bool, lora_r: int, scored: int = 0
) -> float:
    """Estimated peak of GPU memory in one training process, without the context; not measured yet.

    As on a CPU, but the flash kernel keeps its output beside what the next layer reads, and what is in flight is that
    of one layer, not of all: four MLP activations and twelve hidden states a token.

    Args:
        shape: Of the base.
        tokens: Of the largest micro-batch.
        weight_bytes: Of one weight.
        checkpointing: Whether activations are recomputed.
        qlora: Whether the base is in 4 bits.
        lora_r: Rank.
        scored: Tokens of the largest pass without gradients.
    """
    weights, adapter = _held(shape, weight_bytes, qlora, lora_r)
    kept = 4 * shape.hidden + 3 * shape.queries + 2 * shape.keys + 3 * shape.intermediate
    layers = shape.layers * shape.hidden + kept if checkpointing else shape.layers * kept
    in_flight = 4 * shape.intermediate + 12 * shape.hidden
    activations = max(tokens * (layers + in_flight), scored * in_flight)
    return GPU_RUNTIME_BYTES + weights + adapter + activations * weight_bytes


def _held(shape: Shape, weight_bytes: int, qlora: bool, lora_r: int) -> tuple[float, int]:
    """Bytes of the base, and of the adapter in training."""
    weights = shape.dense * (NF4_BYTES if qlora else weight_bytes) + shape.embedding * weight_bytes
    if qlora:
        weights += max(a * b for a, b in shape.matrices()) * weight_bytes  # one matrix unpacked
    return weights, shape.lora(lora_r) * 16  # float32 weight, gradient and Adam's two moments


def parse_bytes(text: str) -> float:
    """``4GB``, ``3.5 GiB``, ``800MB`` in bytes.

    Raises:
        ConfigError: ``text`` is no such size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMG]?I?)B?\s*", text.upper())
    if not match or match[2] not in UNITS or float(match[1]) == 0:
        raise ConfigError("读不懂 memory_budget", expected="如 4GB、3.5GiB、800MB", found=text, todo="写成数字加单位。")
    return float(match[1]) * UNITS[match[2]]
