"""How much memory and disk there is, and how much memory was used."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from zhsenti.core.container import memory_limit
from zhsenti.core.errors import TrainingError
from zhsenti.core.files import require_space

MARGIN_BYTES = 50e6  # log, TensorBoard, rounding of blocks


def check_space(output_dir: Path, needed: float, existing: Iterable[Path]) -> None:
    """See that the disk holds what a run will write.

    Args:
        output_dir: Where; it need not exist.
        needed: Bytes of checkpoints and adapter.
        existing: Folders that hold a part of them already and are replaced.

    Raises:
        TrainingError: It does not.
    """
    needed -= sum(path.stat().st_size for folder in existing for path in folder.iterdir() if path.is_file())
    todo = "腾出空间，减小 --save_total_limit，或用 --output_dir 换一个位置。"
    require_space(output_dir, max(needed, 0) + MARGIN_BYTES, TrainingError, f"磁盘空间不够存检查点：{output_dir}", todo)


def free_memory(device: torch.device) -> float:
    """Bytes this process may hold in all: free GPU memory, or free RAM within the container's limit, and its own."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    import psutil

    free = psutil.virtual_memory().available
    if container := memory_limit():
        limit, used = container
        free = min(free, limit - used)
    return float(free + psutil.Process().memory_info().rss)


def peak_memory_bytes() -> int:
    """Peak of this process: GPU memory where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
