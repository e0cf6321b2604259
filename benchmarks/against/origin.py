"""Where a figure comes from: commit, sources and machine."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from checkout import Checkout
from results import digest, sha256


def commit(root: Path) -> str:
    """HEAD of a checkout or worktree, read from its files: no git is needed, no lock taken. "" outside one."""
    git = root / ".git"
    if git.is_file():
        git = root / git.read_text().removeprefix("gitdir:").strip()
    if not (git / "HEAD").is_file():
        return ""
    head = (git / "HEAD").read_text().strip()
    shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
    ref = shared / head.removeprefix("ref: ")
    return ref.read_text().strip() if ref.is_file() else head


def sources_sha256(root: Path) -> str:
    """Of the code itself, committed or not."""
    files = [path for folder in ("zhsenti", "scripts", "evaluation", "data") for path in (root / folder).rglob("*")]
    inside = {path.relative_to(root).as_posix(): path for path in sorted(files) if path.is_file()}
    skipped = re.compile(r"__pycache__/|^evaluation/outputs/")
    return digest("".join(f"{name}\0{sha256(path)}\n" for name, path in inside.items() if not skipped.search(name)))


def machine() -> dict[str, Any]:
    import psutil

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": name, "cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "platform": platform.platform(), "python": platform.python_version()}  # fmt: skip


def check_import(code: Checkout) -> None:
    """Say which package the commands import.

    Raises:
        SystemExit: It is not the checkout's own.
    """
    place = Path(code.run("-c", "import zhsenti; print(zhsenti.__file__)").stdout.strip()).resolve()
    print(f"{code.name}：{place}", flush=True)
    if not place.is_relative_to(code.root):
        raise SystemExit(f"错误：{code.name} 用的不是 {code.root} 的代码")
