"""Time, memory and the peak of products, on a GPU and on a CPU."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds of ``work`` after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def gemm_peak(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """FLOP/s of a square product of random numbers: best of three, ten products each between two synchronisations."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def ten() -> None:
        for _ in range(10):
            a @ b

    best = min(seconds_of(ten, device, 1) for _ in range(3))
    return 10 * 2.0 * size**3 / best


def free_memory_of_this_process(device: torch.device) -> float:
    """Collect, empty the cache; returns the bytes of tensors that are still on the device."""
    gc.collect()
    if device.type != "cuda":
        return 0.0
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    return float(torch.cuda.memory_allocated(device))


class Peak:
    """Peak of tensors' memory inside the ``with`` block, in bytes: ``peak``.

    On a GPU what its allocator says. On a CPU, where the process's resident memory is full of other things, the bytes
    of all tensors that live at once: those given as ``held``, and those that operators return inside the block.
    What an operator takes and gives back within itself is not in it.
    """

    def __init__(self, device: torch.device, held: float = 0.0) -> None:
        self.device, self.peak, self._live = device, 0.0, _LiveBytes(held)

    def __enter__(self) -> Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device.type == "cuda":
            self.peak = float(torch.cuda.max_memory_allocated(self.device))
        else:
            self._live.__exit__(*error)
            self.peak = self._live.peak


class _LiveBytes(TorchDispatchMode):
    def __init__(self, held: float) -> None:
        super().__init__()
        self.now = self.peak = held
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_address(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                address = storage._cdata
                if address not in self._seen and address not in given:
                    self._seen.add(address)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, address, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def _gone(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def bytes_of(module: torch.nn.Module) -> float:
    """Bytes of its parameters and buffers, each once."""
    kept = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in [*module.parameters(), *module.buffers()]}
    return float(sum(kept.values()))
