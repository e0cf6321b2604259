"""The machine itself: Python, memory, disks, limits of the system, encodings."""

from __future__ import annotations

import codecs
import errno
import locale
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zhsenti.core.console import gigabytes
from zhsenti.core.container import memory_limit
from zhsenti.core.files import free_bytes
from zhsenti.core.paths import cache_root, model_cache
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, Finding, clone_root
from zhsenti.models.embedded import EMBEDDED, is_whole

# Peak of a training process in bytes as training/plan estimates it (bf16, 256 tokens, LoRA rank 8); that module
# imports torch, which may be what is broken. tests/doctor/test_machine.py holds these to the plan.
TRAIN_SMALLEST, TRAIN_DEFAULT, TRAIN_DEFAULT_FP32, TRAIN_LARGER = 1.6e9, 4.2e9, 7.2e9, 8.6e9
TRAIN_LARGER_GPU = 2.0e9  # free memory of a GPU with which it trains 1.5B: in 4 bits, activations recomputed
RUN_BYTES = 0.5e9  # two checkpoints, the adapter, logs and a report, with room
OPEN_FILES = 1024
SHARED_BYTES = 256e6
SHM = Path("/dev/shm")


def python() -> Iterator[Finding]:
    """Version and width of Python, and whether it is one of a virtual environment."""
    version, bits = platform.python_version(), "64 位" if sys.maxsize > 2**32 else "32 位"
    if sys.version_info < (3, 11) or bits == "32 位":
        todo = "装 64 位的 Python 3.11 或更新的版本，用它新建虚拟环境：python3.11 -m venv .venv"
        yield Finding("Python", PROBLEM, f"{version}，{bits}；需要 3.11 以上、64 位", todo)
    elif sys.prefix == sys.base_prefix and not os.environ.get("CONDA_PREFIX"):
        ready = root / ".venv" if (root := clone_root()) and (root / ".venv" / "bin" / "activate").is_file() else None
        make = "" if ready else "python3 -m venv .venv && "
        todo = f"{make}. {shlex.quote(str(ready or '.venv'))}/bin/activate，再运行；只做这一件事的容器里可以不管。"
        yield Finding("Python", NOTICE, f"{version}，{bits}，不在虚拟环境里：{sys.executable}", todo)
    else:
        yield Finding("Python", OK, f"{version}，{bits}，虚拟环境 {sys.prefix}")


def memory() -> Iterator[Finding]:
    """Free memory, the container's limit counted, against what training takes."""
    import psutil

    ram = psutil.virtual_memory()
    free, found = ram.available, f"共 {gigabytes(ram.total)}，空闲 {gigabytes(ram.available)}"
    limit = memory_limit()
    if limit and limit[0] < ram.total:
        free = min(free, limit[0] - limit[1])
        found += f"；容器限额 {gigabytes(limit[0])}，还可用 {gigabytes(max(free, 0))}"
    small, default, larger = (gigabytes(size) for size in (TRAIN_SMALLEST, TRAIN_DEFAULT, TRAIN_LARGER))
    less = "关掉占内存的程序，或换内存更大的机器（容器则调高限额）。"
    if free < TRAIN_SMALLEST:
        found += f"；训练 0.5B 最省也要约 {small}（估算）"
        yield Finding("内存", PROBLEM, found, less)
    elif free < TRAIN_DEFAULT:
        found += f"；0.5B 按默认设置训练约要 {default}（估算）"
        todo = f"仍能训练 0.5B：会自动减小每次前向、重算，或用 4 比特基座（最省约 {small}）。想更快：{less}"
        yield Finding("内存", NOTICE, found, todo)
    else:
        fits = "0.5B 和 1.5B" if free >= TRAIN_LARGER else "0.5B"
        yield Finding("内存", OK, f"{found}；够在 CPU 上训练 {fits}（bf16 约 {default}、{larger}，估算）")


def disks() -> Iterator[Finding]:
    """Room for the embedded model in the cache, and for a run in the current folder."""
    cache, spec = cache_root(), EMBEDDED["embedded"]
    whole = is_whole(model_cache() / "embedded")
    needed = 0.0 if whole else spec.room
    why = "已有内置模型" if whole else f"准备内置模型要 {gigabytes(needed)}"
    move = "或设 ZHSENTI_CACHE=/别的/文件夹 换一个位置"
    finding = _disk("磁盘（缓存）", cache, needed, why, move)
    if whole and finding.status == PROBLEM:  # what is there can be read
        finding = Finding(finding.name, NOTICE, finding.found, f"内置模型照常能用；要准备别的模型：{finding.todo}")
    yield finding
    why = f"一次训练连同报告留 {gigabytes(RUN_BYTES)}"
    yield _disk("磁盘（当前文件夹）", Path.cwd(), RUN_BYTES, why, "或 cd 到别的文件夹再运行，或给 --output_dir")


_WRITING = {
    errno.EROFS: ("是只读的", "改成可写"),
    errno.EACCES: ("没有写的权限", "改权限"),
    errno.EPERM: ("没有写的权限", "改权限"),
    errno.ENOSPC: ("已经写满", "腾出空间"),
    errno.EDQUOT: ("配额已用完", "腾出配额"),
}


def _disk(name: str, folder: Path, needed: float, why: str, otherwise: str) -> Finding:
    """Can files be written to ``folder`` (or to where it will be made), and is there room for ``needed`` bytes?"""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = free_bytes(place)
    found = f"{folder}，空闲 {gigabytes(free)}"
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(bytes(4096))
    except OSError as error:
        fault, repair = _WRITING.get(error.errno or 0, (f"写不了：{error.strerror or error}", f"检查 {place}"))
        return Finding(name, PROBLEM, f"{found}，{fault}", f"{repair}，{otherwise}。")
    if free < needed:
        return Finding(name, PROBLEM, f"{found}，不够：{why}", f"腾出空间，{otherwise}。")
    return Finding(name, OK, f"{found}，可写（{why}）")


def limits() -> Iterator[Finding]:
    """Open files and shared memory, where the system has such limits."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
            able = hard == resource.RLIM_INFINITY or hard >= 4096
            todo = f"ulimit -n {4096 if able else hard}" + ("" if able else "；再高要管理员改 limits.conf。")
            yield Finding("打开文件数", NOTICE, f"上限只有 {soft}，服务和多进程训练可能不够", todo)
        else:
            yield Finding("打开文件数", OK, "没有上限" if soft == resource.RLIM_INFINITY else f"上限 {soft}")
    if SHM.is_dir():
        total = shutil.disk_usage(SHM).total
        if total < SHARED_BYTES:
            todo = "容器启动时加 --shm-size=1g；单机单进程训练可以不管。"
            yield Finding("共享内存", NOTICE, f"{SHM} 只有 {gigabytes(total)}，多卡训练和 Ray 可能不够", todo)
        else:
            yield Finding("共享内存", OK, f"{SHM} 共 {gigabytes(total)}")


def encodings(stdout: str) -> Iterator[Finding]:
    """Whether what is printed, read and named is UTF-8.

    Args:
        stdout: What standard output was set to before this command made it safe to print on.
    """
    used = {"标准输出": stdout, "文件默认": locale.getpreferredencoding(False), "文件名": sys.getfilesystemencoding()}
    wrong = {what: name for what, name in used.items() if _codec(name) != "utf-8"}
    if wrong:
        listed = "、".join(f"{what} {name}" for what, name in wrong.items())
        overrides = os.environ.get("PYTHONIOENCODING")  # it beats PYTHONUTF8
        todo = f"export PYTHONUTF8=1{'；unset PYTHONIOENCODING' if overrides else ''}"
        yield Finding("编码", NOTICE, f"不是 UTF-8：{listed}；中文可能显示成乱码", todo)
    else:
        yield Finding("编码", OK, "UTF-8")


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return name
