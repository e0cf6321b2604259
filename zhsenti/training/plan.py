"""What a run will cost, and how it is cut to fit: said before it starts. Estimates, marked as such.

The choice changes how an update is computed, never what it is: any plan gives the same update up to rounding (4-bit
weights are the exception: they are another base, so they come last and are said aloud).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch

from zhsenti.training.memory import Shape, gpu_memory_bytes, memory_bytes

# Share of the measured GEMM peak that LoRA training reaches: on two cores (docs/results/training.json); on a GPU it has
# not been measured, and this is what is aimed at.
EFFICIENCY = {"cpu": 0.7, "cuda": 0.4}
MICRO_TOKENS = {"cpu": (1536, 1024, 512, 256), "cuda": (16384, 8192, 4096, 2048, 1024, 512)}
# Smaller passes leave a GPU idle: there recomputing in passes of 2048 comes before passes below 1024 without it.
GPU_LEAST_TOKENS = {"plain": 1024, "recomputed": 2048}
GPU_GEMM_PRODUCTS, GPU_GEMM_SECONDS = 4, 0.5  # in a round; no more rounds after this time


class Options(TypedDict):
    """What a fit has to hold and what it may change.

    Attributes:
        longest: Row, in tokens.
        update: Tokens of the largest update, in one process. On a GPU, where passes are large, it bounds them.
        device: Type of it, a key of ``MICRO_TOKENS``.
        weight_bytes: Of one weight of the base.
        lora_r: Rank.
        checkpointing: True: always recompute activations; False: only where needed.
        qlora: Whether the base is in 4 bits; None: only where needed.
    """

    longest: int
    update: int
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


def fit_memory(shape: Shape, budget: float, **options: Unpack[Options]) -> Fit | None:
    """The fastest way to train within ``budget`` bytes, or None.

    Tried in order: smaller micro-batches, checkpointing, a 4-bit base; on a GPU checkpointing comes before the
    smallest ones.
    """
    return next((fit for fit in _fits(shape, **options) if fit.memory <= budget), None)


def smallest_fit(shape: Shape, **options: Unpack[Options]) -> Fit:
    """What takes least memory, whether it fits or not."""
    return min(_fits(shape, **options), key=lambda fit: fit.memory)


def _fits(shape: Shape, **options: Unpack[Options]) -> Iterator[Fit]:
    """All ways to compute an update, the fastest first."""
    qlora = options["qlora"]
    for four_bit in (False, True) if qlora is None else (qlora,):
        for recompute, micro in _cuts(options["device"], options["checkpointing"]):
            yield Fit(micro, recompute, four_bit, _memory(shape, micro, recompute, four_bit, options))


def _cuts(device: str, checkpointing: bool) -> list[tuple[bool, int]]:
    """Whether to recompute, with how many tokens a pass; the fastest first."""
    cuts = [(again, micro) for again in ((True,) if checkpointing else (False, True)) for micro in MICRO_TOKENS[device]]
    if device == "cuda":
        cuts.sort(key=lambda cut: cut[1] < GPU_LEAST_TOKENS["recomputed" if cut[0] else "plain"])
    return cuts


def _memory(shape: Shape, micro: int, checkpointing: bool, qlora: bool, options: Options) -> float:
    """Estimated peak in bytes with at most ``micro`` tokens a pass."""
    whole = max(micro, options["longest"])
    fixed: dict[str, Any] = {
        "weight_bytes": options["weight_bytes"],
        "checkpointing": checkpointing,
        "qlora": qlora,
        "lora_r": options["lora_r"],
    }
    if options["device"] == "cpu":
        return memory_bytes(shape, tokens=whole, **fixed)
    return gpu_memory_bytes(shape, tokens=min(whole, options["update"]), scored=whole, **fixed)


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


def gemm_flops(dtype: torch.dtype, device: torch.device, size: int = 0) -> float:
    """Peak of a dense matrix product in FLOP/s, best of five after one warm-up (about 0.1 s on a CPU, 0.5 s on a GPU).

    Args:
        dtype: Of the matrices.
        device: Where they are.
        size: Their rows and columns; 0 for 1024, and on a GPU for as many as it takes to keep it busy.
    """
    if device.type == "cuda":
        return gpu_gemm_flops(dtype, device, size or _gpu_gemm_size(dtype, device))
    size = size or 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def gpu_gemm_flops(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """The same on a GPU: several products between two looks at the clock, for to start one takes time as well."""
    generator = torch.Generator(device).manual_seed(0)  # the run's random numbers stay as they are
    a, b = (torch.randn(size, size, generator=generator, dtype=dtype, device=device) for _ in range(2))
    product = a @ b
    torch.cuda.synchronize(device)
    times: list[float] = []
    while len(times) < 5 and sum(times) < GPU_GEMM_SECONDS:
        start = time.perf_counter()
        for _ in range(GPU_GEMM_PRODUCTS):
            torch.mm(a, b, out=product)
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 * GPU_GEMM_PRODUCTS / min(times)


def _gpu_gemm_size(dtype: torch.dtype, device: torch.device) -> int:
    """8192, or less where the three matrices would take more than half of the free memory."""
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    size = 8192
    while size > 1024 and 3 * size**2 * dtype.itemsize > free / 2:
        size //= 2
    return size


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

    Measures this machine, which draws random numbers on a CPU.
    """
    flops = shape.dense * (train_tokens * (6 if checkpointing else 4) + dev_tokens * 2)
    return flops / (EFFICIENCY[device.type] * gemm_flops(dtype, device))
