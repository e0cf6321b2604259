"""Import the heavy libraries in a process of their own: a broken one may crash or hang, and takes only itself along."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhsenti.doctor.findings import first_line

LIBRARIES = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers", "safetensors", "gguf", "datasets",
    "pyarrow", "pandas", "sklearn", "matplotlib", "modelscope", "wandb", "tensorboard",
)  # fmt: skip
SECONDS = 60.0


@dataclass(frozen=True)
class Imported:
    """error  "" when all went well;  seconds  of the import;  facts  what FACTS asks the library, JSON values."""

    error: str = ""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def probe(names: Sequence[str] = LIBRARIES, seconds: float = SECONDS) -> dict[str, Imported]:
    """Import ``names`` in order. After a crash the rest goes on in a new process; after ``seconds`` it ends."""
    results: dict[str, Imported] = {}
    deadline = time.monotonic() + seconds
    while waiting := [name for name in names if name not in results]:
        started, found, end = _run(waiting, deadline - time.monotonic())
        results |= found
        if end is None:
            for name in waiting:
                late = "还没有导入完" if name == started else "还没有轮到"
                results.setdefault(name, Imported(error=f"{seconds:.0f} 秒后{late}"))
        elif not found.keys() >= set(waiting):
            results[started or waiting[0]] = Imported(error=_end(end))
    return results


def _run(names: Sequence[str], seconds: float) -> tuple[str | None, dict[str, Imported], int | None]:
    """The last library that was begun, what the process reported, and its exit code (None: ended for lateness)."""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({root!r}); from zhsenti.doctor.probe import main; main(sys.argv[1:])"
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, *names]  # -P: no modules from the user's folder
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
    try:
        output, _ = child.communicate(timeout=max(seconds, 0.1))
        end: int | None = child.returncode
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        end = None
    started, found = None, {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):  # a line cut off by a crash
            entry = json.loads(line)
            started = entry.pop("name")
            if entry:
                found[started] = Imported(**entry)
    return started, found, end


def _end(code: int) -> str:
    if code < 0:
        return f"导入时进程崩溃（{signal.Signals(-code).name}）"
    return f"导入时进程退出（代码 {code}）"


def main(names: Sequence[str]) -> None:
    """In the child: a JSON line when a library is begun, another when it is done."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not a report
    for name in names:
        print(json.dumps({"name": name}), file=report, flush=True)
        start, error, facts = time.perf_counter(), "", {}
        try:
            library = importlib.import_module(name)
            facts = FACTS[name](library) if name in FACTS else {}
        except BaseException as raised:  # SystemExit too
            error = first_line(raised)
        entry = {"name": name, "error": error, "seconds": time.perf_counter() - start, "facts": facts}
        print(json.dumps(entry), file=report, flush=True)


def _torch(torch: Any) -> dict[str, Any]:
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
            facts["gpu_error"] = first_line(error)
    if not facts["gpu_error"]:
        from zhsenti.models.precision import pick_precision

        facts["precision"] = pick_precision("auto").name
    return facts


def _gpu(torch: Any, index: int) -> dict[str, Any]:
    """Computes a little, for a card that this build of torch has no code for is found only so."""
    with torch.cuda.device(index):
        error = ""
        try:
            torch.ones(8, device="cuda").sum().item()
        except Exception as raised:
            error = first_line(raised)
        free, total = torch.cuda.mem_get_info()
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return {"name": torch.cuda.get_device_name(index), "free": free, "total": total, "bf16": bf16, "error": error}


def _matplotlib(_: Any) -> dict[str, Any]:
    from zhsenti.evaluation.report.pictures import chinese_font

    return {"font": chinese_font()}


FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {"torch": _torch, "matplotlib": _matplotlib}
