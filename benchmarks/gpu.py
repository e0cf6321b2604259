"""Is zhsenti right and fast on this GPU? Six sections in a few minutes, without network and without weights.

    python benchmarks/gpu.py                        on a GPU: 8 minutes at most, JSON in docs/results/gpu/
    python benchmarks/gpu.py --smoke                everything with tiny shapes, on a CPU too: under two minutes
    python benchmarks/gpu.py --sections training,scoring --minutes 4 --json /tmp/gpu
    python benchmarks/gpu.py --write_lengths DIR    count the prompts of ChnSentiCorp's train file in DIR anew

correctness  decode(), LoRA gradients and label log-probabilities against transformers + peft; loss curves; NF4
training     reviews/s, share of the bf16 peak and memory against transformers Trainer + PEFT, in turns
qlora        the planner's ways to train on cards of 4, 8 and 12 GB, estimate against measured, under a hard limit
scoring      reviews/s against textbook label scoring and batched transformers; adapter as it is and merged
kernels      attention kernels taken, launches, idle share, cuDNN on and off, CUDA graphs, torch.compile
memory       out of memory in training and scoring; resume equal to the unbroken run, bit for bit

Networks have Qwen2.5's shapes and random weights, drawn on the device; reviews are random characters with the lengths
of real ones (gpu_sections/lengths.json). Each section writes its JSON as it ends; one that fails writes its error, and
the next runs. Exit code 1 if any failed. What there was no time for is said, and is no failure.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_sections import SECTIONS, STARTED

if TYPE_CHECKING:
    from gpu_sections.options import Deadline, Options, Scale

ROOT = Path(__file__).resolve().parents[1]
RESERVE = 0.03  # of the time, for what comes after the last section


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="GPU 上的正确、速度与内存：不需要网络和权重")
    parser.add_argument("--smoke", action="store_true", help="极小的形状，CPU 上也能跑完；速度不作数")
    parser.add_argument("--minutes", type=float, default=8, help="最多几分钟（默认 8）")
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help=f"哪几节，逗号分隔（默认全部：{'、'.join(SECTIONS)}）"
    )
    parser.add_argument(
        "--json", type=Path, help="结果写入这个文件夹，一节一个文件（默认 docs/results/gpu；--smoke 时一个临时文件夹）"
    )
    parser.add_argument("--write_lengths", type=Path, metavar="DIR", help="重数 DIR 里训练文件的长度，写 lengths.json")
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections.split(",") if name not in SECTIONS]
    if unknown:
        parser.error(f"没有这一节：{'、'.join(unknown)}")
    if args.json is None and not args.write_lengths:
        args.json = Path(tempfile.mkdtemp(prefix="zhsenti-gpu-")) if args.smoke else ROOT / "docs/results/gpu"
    return args


def versions() -> dict[str, str | None]:
    """Of the libraries that decide the figures; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "triton"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def provenance(device: Any, options: Options, args: argparse.Namespace) -> dict[str, Any]:
    """Where a section's figures come from; the hash is of what was computed, whatever the commit."""
    import torch
    from common import machine
    from gpu_sections.reviews import LENGTHS

    from zhsenti.core.hashing import file_sha256, json_sha256

    on_gpu = device.type == "cuda"
    settings = {
        "scale": options.scale.settings(),
        "precision": options.precision.name,
        "lengths_sha256": file_sha256(LENGTHS),
    }
    return {
        "command": f"python benchmarks/gpu.py{' --smoke' if args.smoke else ''} --minutes {args.minutes:g}",
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "device_memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9 if on_gpu else None,
        "machine": machine(),
        "versions": versions(),
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "settings": settings,
        "settings_sha256": json_sha256(settings),
        "date": time.strftime("%Y-%m-%d"),
    }


def run_section(name: str, device: Any, options: Options, whole: Deadline) -> dict[str, Any]:
    """One section: status (passed, failed, skipped, cut), figures, and what else it found."""
    from gpu_sections.options import TimeUp, say

    result: dict[str, Any] = {"section": name, "status": "skipped", "smoke": options.smoke}
    if options.allows(f"整节 {name}"):
        print(f"== {name}", flush=True)
        started = time.monotonic()
        try:
            with whole.enforced():
                section = getattr(importlib.import_module(f"gpu_sections.{name}"), name)
                result["details"] = section(device, options)
            result["status"] = "failed" if options.failures else "passed"
        except TimeUp:
            result["status"] = "cut"
            options.deadline.skipped.append(f"{name} 余下的部分")
        except Exception as error:
            result["status"] = "failed"
            result["error"] = f"{type(error).__name__}: {error}"[:2000]
            result["traceback"] = traceback.format_exc()[-4000:]
            say(f"出错：{result['error'][:300]}")
        result["seconds"] = time.monotonic() - started
    for what in options.deadline.skipped:
        say(f"时间不够，跳过：{what}")
    result |= {"figures": options.figures, "failures": options.failures, "targets": options.targets,
               "skipped": options.deadline.skipped}  # fmt: skip
    return result


def run(args: argparse.Namespace, scale: Scale) -> dict[str, dict[str, Any]]:
    """All chosen sections, each written as it ends."""
    import torch
    from gpu_sections.measure import free_memory_of_this_process
    from gpu_sections.options import Deadline, Options
    from gpu_sections.reviews import read_lengths

    from zhsenti.core.files import write_json
    from zhsenti.models.precision import pick_device, pick_precision

    device, precision = pick_device(), pick_precision("bf16" if args.smoke else "auto")
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())  # limits are set by number
    seconds = 60 * args.minutes
    whole = Deadline(STARTED + seconds * (1 - RESERVE))
    lengths = read_lengths(max(scale.scored, 32 * scale.turn * (scale.turns + 2)), scale.shorten)
    args.json.mkdir(parents=True, exist_ok=True)
    names = [name for name in SECTIONS if name in args.sections.split(",")]
    results = {}
    for number, name in enumerate(names):
        rest = sum(SECTIONS[later] for later in names[number:])
        options = Options(scale, args.smoke, precision, whole.part(SECTIONS[name] / rest), lengths)
        result = run_section(name, device, options, whole)
        results[name] = result
        write_json(args.json / f"{name}.json", {**result, "provenance": provenance(device, options, args)})
        free_memory_of_this_process(device)
    return results


def show(results: dict[str, dict[str, Any]]) -> None:
    """The main figures, the targets, and how many sections passed."""
    for result in results.values():
        for figure, value in result["figures"].items():
            print(f"{figure}: {value:.4g}")
    for result in results.values():
        for target in result["targets"]:
            sign = "≤" if target["at_most"] else "≥"
            met = "达到" if target["met"] else "未达到"
            print(f"{met}  {target['name']} {target['value']:.3g}（要 {sign} {target['wanted']:g}）")
        for fault in result["failures"]:
            print(f"不对  {result['section']}：{fault}")
    for result in results.values():
        if result["status"] != "passed":
            reason = result.get("error") or "；".join(result["failures"] + result["skipped"])
            print(f"{result['section']}  {result['status']}：{reason}")
    print(f"gpu_sections_passed: {sum(result['status'] == 'passed' for result in results.values())}")


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    # cuBLAS reads it when it starts; without it torch refuses to be deterministic (section memory).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if args.write_lengths:
        from gpu_sections.reviews import write_lengths

        write_lengths(args.write_lengths)
        return 0
    import torch
    from gpu_sections.options import FULL, SMOKE

    if not torch.cuda.is_available() and not args.smoke:
        print("没有 GPU：加 --smoke 用极小的形状在 CPU 上跑一遍。", file=sys.stderr)
        return 2
    if args.smoke:
        torch.set_num_threads(1)  # there is nothing to share in tiny shapes
    results = run(args, SMOKE if args.smoke else FULL)
    print(f"各节的 JSON 在 {args.json}")
    show(results)
    return 1 if any(result["status"] == "failed" for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
