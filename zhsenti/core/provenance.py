"""Where a result came from: library versions, the machine, and the command to type again."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from zhsenti import __version__

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "safetensors")

Facts = dict[str, str | int | float | None]


def library_versions(*more: str) -> dict[str, str]:
    """Versions of zhsenti, of the libraries that decide a model's scores, and of the packages named in ``more``.

    One that is not installed is "not installed": a run that could do without it need not fail when all is done.
    """
    from importlib import metadata

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:  # onnxruntime is imported by that name from onnxruntime-gpu as well
            carriers = metadata.packages_distributions().get(name, [])
            return metadata.version(carriers[0]) if carriers else "not installed"

    return {"zhsenti": __version__, **{name: version(name) for name in (*LIBRARIES, *more)}}


def machine_identity() -> Facts:
    """What of this machine can change a score in its last bits. Part of cached scores' keys: it must stay as it is.

    Imports torch.

    Returns:
        cpu: The processor's model, in its maker's words.
        cores: Logical cores of the machine, also where this process may not use all of them.
        platform: Operating system, version and architecture.
        gpu: Name of the first CUDA device, None without one.
    """
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": _cpu(), "cores": os.cpu_count(), "platform": platform.platform(), "gpu": gpu}


def machine() -> Facts:
    """``machine_identity()`` and what else decides how fast this machine is. Imports torch.

    Returns:
        usable_cores: Logical cores that this process may run on.
        memory_gb: Memory in all, in 10^9 bytes.
        capability: The CPU instructions that torch uses, such as "AVX512".
        python: Version of Python.
    """
    import psutil
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        **machine_identity(),
        "usable_cores": usable,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return name  # not Linux: the platform's own word for it
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)


def command_line(door: str, argv: Sequence[str] | None = None) -> str:
    """What to type in a shell to do the same again.

    Args:
        door: How the command is started, such as "zhsenti evaluate".
        argv: The words after it; None for those that this process was started with.
    """
    return " ".join([door, *map(shlex.quote, sys.argv[1:] if argv is None else argv)])
