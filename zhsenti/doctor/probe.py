"""Import the heavy libraries in a process of their own: a broken one may crash or hang, and takes only itself along."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from zhsenti.core.paths import package_file
from zhsenti.doctor.findings import kind_and_line

LIBRARIES = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers", "safetensors", "gguf", "datasets",
    "pyarrow", "pandas", "sklearn", "matplotlib", "modelscope", "wandb", "tensorboard",
)  # fmt: skip
SECONDS = 60.0
NF4_ERROR = 0.2  # half of the widest gap between two values that it knows is 0.15


@dataclass(frozen=True)
class Imported:
    """What came of one import.

    Attributes:
        error: "" when all went well.
        seconds: How long it took.
        facts: What ``FACTS`` asks the library, JSON values.
    """

    error: str = ""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def probe(names: Sequence[str] = LIBRARIES, seconds: float = SECONDS) -> dict[str, Imported]:
    """Import libraries in order, in another process; after a crash the rest goes on in a new one.

    Args:
        names: Of the libraries.
        seconds: How long all of it may take; what is not imported by then has an error.
    """
    results: dict[str, Imported] = {}
    deadline = time.monotonic() + seconds
    while waiting := [name for name in names if name not in results]:
        last, reported, end = _run(waiting, deadline - time.monotonic())
        results |= reported
        if end is None:
            for name in waiting:
                late = "还没有导入完" if name == last else "还没有轮到"
                results.setdefault(name, Imported(error=f"{seconds:.0f} 秒后{late}"))
        elif not reported.keys() >= set(waiting):
            results[last or waiting[0]] = Imported(error=_end(end))
    return results


def _run(names: Sequence[str], seconds: float) -> tuple[str | None, dict[str, Imported], int | None]:
    """The last library that was begun, what the process reported, and its exit code (None: ended for lateness)."""
    # -P: no modules from the folder that the user is in
    command = [sys.executable, "-P", "-W", "ignore", "-m", "zhsenti.doctor.probe", *names]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        text=True,
        encoding="utf-8",
    )
    try:
        output, _ = child.communicate(timeout=max(seconds, 0.1))
        end: int | None = child.returncode
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        end = None
    last, reported = None, {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):  # a line cut off by a crash
            entry = json.loads(line)
            last = entry.pop("name")
            if entry:
                reported[last] = Imported(**entry)
    return last, reported, end


def _environment() -> dict[str, str]:
    """The child's environment: it finds the package that runs here, from whatever folder it was started.

    An installed package is found as it is. Its folder must not come before the standard library, as folders named in
    PYTHONPATH do: an old backport lying there would then be taken for a module of Python's own.
    """
    home = str(package_file("zhsenti").resolve().parent)
    installed = {os.path.realpath(folder) for folder in (*site.getsitepackages(), site.getusersitepackages())}
    before = os.environ.get("PYTHONPATH")
    path = {} if home in installed else {"PYTHONPATH": os.pathsep.join(filter(None, [home, before]))}
    return {**os.environ, **path}


def _end(code: int) -> str:
    if code < 0:
        return f"导入时进程崩溃（{signal.Signals(-code).name}）"
    return f"导入时进程退出（代码 {code}）"


def main(names: Sequence[str]) -> None:
    """What the child does: a JSON line when a library is begun, another when it is done."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not a report
    for name in names:
        print(json.dumps({"name": name}), file=report, flush=True)
        start, error, facts = time.perf_counter(), "", {}
        try:
            library = importlib.import_module(name)
            facts = FACTS[name](library) if name in FACTS else {}
        except BaseException as raised:  # SystemExit too
            error = kind_and_line(raised)
        entry = {"name": name, "error": error, "seconds": time.perf_counter() - start, "facts": facts}
        print(json.dumps(entry), file=report, flush=True)


def _torch(torch: ModuleType) -> dict[str, Any]:
    gpus: list[dict[str, Any]] = []
    facts = {
        "version": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "gpu_error": "",
        "precision": "",
    }
    if facts["cuda"]:
        try:
            torch.cuda.init()
            for index in range(torch.cuda.device_count()):
                gpus.append(_gpu(torch, index))
        except Exception as error:  # CUDA's errors are of many kinds; all of them mean "cannot be used"
            facts["gpu_error"] = kind_and_line(error)
    with contextlib.suppress(Exception):  # what is wrong with the driver is said already; mostly the CPU is used then
        from zhsenti.models.precision import pick_precision

        facts["precision"] = pick_precision("auto").name
    return facts


def _gpu(torch: ModuleType, index: int) -> dict[str, Any]:
    """Computes a little, for a card that this build of torch has no code for is found only so."""
    with torch.cuda.device(index):
        error, bf16 = "", torch.cuda.is_bf16_supported(including_emulation=False)
        try:
            ones = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16 if bf16 else torch.float16)
            (ones @ ones).sum().item()
        except Exception as raised:
            error = kind_and_line(raised)
        free, total = torch.cuda.mem_get_info()
    return {"name": torch.cuda.get_device_name(index), "free": free, "total": total, "bf16": bf16, "error": error}


def _bitsandbytes(library: ModuleType) -> dict[str, Any]:
    import torch

    return {"four_bits": [try_four_bits(library, f"cuda:{index}") for index in range(torch.cuda.device_count())]}


def try_four_bits(bitsandbytes: ModuleType, device: str) -> str:
    """Why weights do not go into NF4 on ``device`` and come back as they were, nearly; "" where they do."""
    import torch

    try:
        with torch.cuda.device(device) if device != "cpu" else contextlib.nullcontext():
            weights = torch.linspace(-1, 1, 4096, device=device, dtype=torch.float16)
            packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
            error = (bitsandbytes.functional.dequantize_4bit(packed, state) - weights).abs().max().item()
    except Exception as raised:  # a library without code for this card, or without its CUDA part
        return kind_and_line(raised)
    return "" if error < NF4_ERROR else f"压缩再还原后差 {error:.2f}"


def _matplotlib(_: ModuleType) -> dict[str, Any]:
    from zhsenti.evaluation.report.pictures import chinese_font

    return {"font": chinese_font()}


FACTS: dict[str, Callable[[ModuleType], dict[str, Any]]] = {
    "torch": _torch,
    "bitsandbytes": _bitsandbytes,
    "matplotlib": _matplotlib,
}

if __name__ == "__main__":
    main(sys.argv[1:])
