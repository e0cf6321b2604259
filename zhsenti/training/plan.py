"""What a run will cost, said before it starts. Estimates, marked as such."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

# Share of the measured GEMM peak that LoRA training reached on the 0.5B model (docs/log.md, 2026-11-23).
EFFICIENCY = 0.5
# Saved activations of one layer and token, in hidden and intermediate widths (fitted to the same run's peak).
HIDDEN_COPIES, INTERMEDIATE_COPIES = 24, 12
RUNTIME_BYTES = 0.9e9  # Python, torch and transformers before any weight


@dataclass(frozen=True)
class Plan:
    trainable: int
    total: int
    steps: int
    seconds: float
    memory_bytes: float


def gemm_flops(dtype: torch.dtype, device: torch.device, size: int = 1024) -> float:
    """Peak of a dense matrix product in FLOP/s, best of five after one warm-up (about 0.1 s on a CPU)."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def make_plan(network: Any, lengths: dict[str, list[int]], steps: dict[str, float], checkpointing: bool) -> Plan:
    """lengths: tokens of each ``train`` and ``dev`` prompt; steps: total, epochs, evaluations, batch_size.

    A LoRA step costs 4 N FLOP a token (forward 2 N, input gradients 2 N; the base has no weight gradients), N the
    parameters outside the embedding; recomputation with gradient checkpointing adds 2 N.
    """
    config = network.config.get_text_config() if hasattr(network.config, "get_text_config") else network.config
    parameters = list(network.named_parameters())
    total = sum(p.numel() for _, p in parameters)
    trainable = sum(p.numel() for _, p in parameters if p.requires_grad)
    embedding = config.vocab_size * config.hidden_size
    dense = total - embedding
    first = next(iter(network.parameters()))
    tokens = sum(lengths["train"]) * steps["epochs"]
    dev_tokens = sum(lengths["dev"]) * steps["evaluations"]
    flops = dense * (tokens * (6 if checkpointing else 4) + dev_tokens * 2)
    seconds = flops / (EFFICIENCY * gemm_flops(first.dtype, first.device))

    weights = sum(p.numel() * p.element_size() for _, p in parameters) + trainable * 3 * 4
    per_token = 2 * (HIDDEN_COPIES * config.hidden_size + INTERMEDIATE_COPIES * config.intermediate_size)
    if first.dtype == torch.float32:
        per_token *= 2
    batch_tokens = max(lengths["train"]) * steps["batch_size"]
    layers = 1 if checkpointing else config.num_hidden_layers
    activations = batch_tokens * (per_token * layers + (2 * config.hidden_size * config.num_hidden_layers))
    return Plan(trainable, total, int(steps["total"]), seconds, weights + activations + RUNTIME_BYTES)
