"""torch and the GPU: what this build can use, what the driver shows, and whether the two agree."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhsenti.core.console import gigabytes
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, Finding, pip
from zhsenti.doctor.machine import TRAIN_DEFAULT_FP32, TRAIN_LARGER_GPU
from zhsenti.doctor.probe import Imported

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of the container, in microseconds: quota, period
CPU_BUILD = "按 PyTorch 官网的安装说明，在同一环境里装 torch {version} 的 CUDA 版。"


def torch(imported: Imported) -> Iterator[Finding]:
    """Whether torch can be used, what it was built for, and how many threads it takes."""
    facts = imported.facts
    if not facts:
        yield Finding("torch", PROBLEM, f"不能用：{imported.error}", "没有它什么都做不了：先照“导入”的那一行做。")
        return
    cpus, threads = usable_cpus(), facts["threads"]
    build = f"CUDA {facts['cuda']} 版" if facts["cuda"] else "CPU 版"
    found = f"{facts['version']}，{build}，{threads} 线程 / {cpus} 核可用"
    if facts["precision"]:
        found += f"，auto 精度为 {facts['precision']}"
    if threads < cpus // 2 or threads > cpus:
        todo = f"export OMP_NUM_THREADS={cpus}（现在{os.environ.get('OMP_NUM_THREADS') or '没有设'}）"
        yield Finding("torch", NOTICE, f"{found}；线程太{'少' if threads < cpus else '多'}，CPU 上会慢", todo)
    elif facts["precision"] == "fp32":
        found += f"；CPU 不会 bf16 乘法，较慢，0.5B 默认设置训练约要 {gigabytes(TRAIN_DEFAULT_FP32)}（估算）"
        todo = "能用，不必处理；内存不够会自动用更省的办法，打分可加 --precision int8（x86）。"
        yield Finding("torch", NOTICE, found, todo)
    else:
        yield Finding("torch", OK, found)


def usable_cpus() -> int:
    """CPUs that this process may use: fewer than the machine's under taskset or in a container with a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(number) for number in CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # no container, or no quota ("max")
        return count
    return max(1, min(count, round(quota / period)))


@dataclass(frozen=True)
class Driver:
    """What nvidia-smi says.

    Attributes:
        cards: Name and driver version of each card.
        error: Its first line where it failed.
    """

    cards: tuple[tuple[str, str], ...] = ()
    error: str = ""


def driver() -> Driver:
    """Ask nvidia-smi, where it is installed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Driver()
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(error=f"nvidia-smi：{type(error).__name__}")
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return Driver(error=f"nvidia-smi：{lines[0][:200] if lines else f'退出代码 {done.returncode}'}")
    rows = (line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line)
    return Driver(tuple((name.strip(), version.strip()) for name, version in rows))


def gpu(imported: Imported, seen: Driver, quantiser: Imported) -> Iterator[Finding]:
    """Each card as torch sees it; where it sees none, why that may be, going by what the driver sees.

    Args:
        imported: torch.
        seen: What the driver says.
        quantiser: bitsandbytes, which has tried each card.
    """
    facts = imported.facts
    listed = "、".join(name for name, _ in seen.cards)
    if facts.get("gpus"):
        version = f"，驱动 {seen.cards[0][1]}" if seen.cards else ""
        tried = quantiser.facts.get("four_bits", [])
        for index, card in enumerate(facts["gpus"]):
            four_bits = tried[index] if index < len(tried) else "bitsandbytes 不能导入"
            yield _card(card, f"{version}，torch 的 CUDA {facts['cuda']}", four_bits)
    elif seen.error:
        todo = "驱动没有装好或刚升级过：重启机器，仍不行就重装 NVIDIA 驱动。只用 CPU 可以不管。"
        yield Finding("显卡", NOTICE, seen.error, todo)
    elif not seen.cards:
        todo = "不必处理：auto 在 CPU 上用 0.5B。想用 1.5B 或更快，换有 NVIDIA 显卡的机器。"
        yield Finding("显卡", NOTICE, "没有 NVIDIA 显卡（或容器看不到它）", todo)
    elif not facts:
        yield Finding("显卡", NOTICE, f"有 {listed}，但 torch 不能用", "先修好 torch。")
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        yield Finding("显卡", NOTICE, f"有 {listed}，被 CUDA_VISIBLE_DEVICES 遮住", "unset CUDA_VISIBLE_DEVICES")
    elif not facts["cuda"]:
        todo = CPU_BUILD.format(version=facts["version"].split("+")[0])
        yield Finding("显卡", NOTICE, f"有 {listed}，但装的 torch 是 CPU 版，用不上它", todo)
    else:
        found = f"有 {listed}（驱动 {seen.cards[0][1]}），torch 却用不了：{facts['gpu_error'] or '看不到设备'}"
        todo = f"驱动要支持 CUDA {facts['cuda']}：升级 NVIDIA 驱动，或装与驱动相配的 torch。"
        yield Finding("显卡", PROBLEM, found, todo)


def _card(card: dict[str, Any], versions: str, four_bits: str) -> Finding:
    """One card; ``four_bits`` is "" where it computes with a base in 4 bits, else why not."""
    found = f"{card['name']}，显存 {gigabytes(card['total'])}，空闲 {gigabytes(card['free'])}{versions}，"
    found += "有 bf16" if card["bf16"] else "没有 bf16（用 fp16）"
    if card["error"]:
        todo = "这个 torch 没有这块卡的代码，或驱动太旧：按 PyTorch 官网的安装说明换一个 CUDA 版，或升级驱动。"
        return Finding("显卡", PROBLEM, f"{found}；试算失败：{card['error']}", todo)
    found += f"；试算：{'bf16' if card['bf16'] else 'fp16'} 乘法可用，4 比特（QLoRA）"
    if four_bits:
        todo = f"重装 bitsandbytes：{pip()} install --force-reinstall --no-deps bitsandbytes；不用 4 比特基座可以不管。"
        return Finding("显卡", NOTICE, f"{found}用不了：{four_bits}", todo)
    found += "可用"
    if card["free"] < TRAIN_LARGER_GPU:
        todo = "关掉占显存的程序（nvidia-smi 列出它们）；不管它，auto 就用 0.5B。"
        least = f"训练 1.5B 至少空闲 {gigabytes(TRAIN_LARGER_GPU)}（4 比特、激活重算，估算）"
        return Finding("显卡", NOTICE, f"{found}；{least}", todo)
    return Finding("显卡", OK, found)
