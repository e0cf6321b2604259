"""What a checkpoint is, which of those in a folder count, and which is taken to go on from.

A checkpoint is a folder that holds all that resume needs (adapter, best adapter so far, optimizer, schedule, RNG and
trainer state). It is written under a hidden name, its mark (``MARK``, with the SHA-256 of every other file) last, and
then renamed: what is called checkpoint-N was whole once, and the mark tells whether it still is.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, TypedDict, cast

from zhsenti.artifact import WEIGHTS, broken_files, seal
from zhsenti.core.errors import TrainingError, first_line
from zhsenti.core.files import fresh_folder, swap_in, write_text
from zhsenti.core.hashing import json_sha256
from zhsenti.core.paths import user_path
from zhsenti.models.untrusted import read_json

MARK = "zhsenti_checkpoint.json"
FORMAT = 2
BEST = "best_adapter.safetensors"  # the best adapter before this step; absent when this step's own is the best
STATE = "trainer_state.json"
NEEDED = ("optimizer.pt", "scheduler.pt", STATE, WEIGHTS)
UNFINISHED = ".unfinished-"
DISCARDED = ".discarded-"
SET_ASIDE = "broken"
SECTIONS = ("config", "data", "task", "base")


class Identity(TypedDict):
    """What may not change between a run and its resumption (``training.identity``); its keys are ``SECTIONS``."""

    config: dict[str, Any]
    task: dict[str, Any]
    data: str
    base: str


class Mark(TypedDict):
    """What ``MARK`` holds.

    Attributes:
        format: ``FORMAT``.
        step: Updates so far.
        micro_tokens: Tokens of a forward pass; no part of the identity, as it changes rounding alone, but resume
            keeps it so as to be bit-equal.
        seconds: Of training it took to come here.
        hashes: SHA-256 of each section of the identity.
        identity: Of the run.
        files: Name -> SHA-256 of every other file.
    """

    format: int
    step: int
    micro_tokens: int
    seconds: float
    hashes: dict[str, str]
    identity: Identity
    files: dict[str, str]


def random_state_file(rank: int, processes: int) -> str:
    """transformers' name for a process's random state."""
    return "rng_state.pth" if processes == 1 else f"rng_state_{rank}.pth"


def commit(unfinished: Path, folder: Path, identity: Identity, *, step: int, micro_tokens: int, seconds: float) -> None:
    """Mark what was written to ``unfinished`` as whole and give it its name, ``folder``. The rest: see ``Mark``."""
    sections = cast(dict[str, object], identity)
    hashes = {section: json_sha256(sections[section]) for section in SECTIONS}
    progress = {"step": step, "micro_tokens": micro_tokens, "seconds": round(seconds, 1)}
    seal(unfinished, MARK, {"format": FORMAT, **progress, "hashes": hashes, "identity": identity})
    swap_in(unfinished, folder)  # a run that went back to an earlier checkpoint comes by here again


def read_mark(folder: Path) -> Mark:
    """The mark of a checkpoint.

    Raises:
        OSError: There is none, or it cannot be read.
        ValueError: It is no mark of this format; a Chinese reason.
    """
    mark = read_json(folder / MARK)
    if mark.get("format") != FORMAT:
        raise ValueError(f"是另一个版本的 zhsenti 写的（格式 {mark.get('format')}，需要 {FORMAT}）")
    kinds: dict[str, Any] = {"step": int, "micro_tokens": int, "seconds": (int, float), "identity": dict, "files": dict}
    if not all(isinstance(mark.get(key), kind) for key, kind in kinds.items()) or mark["micro_tokens"] < 1:
        raise ValueError("内容不全")
    identity = mark["identity"]
    if not all(isinstance(identity.get(section), dict) for section in ("config", "task")):
        raise ValueError("内容不全")
    if not (isinstance(identity["config"].get("processes"), int) and 1 <= identity["config"]["processes"] <= 1024):
        raise ValueError("进程数不对")
    if {section: json_sha256(identity.get(section)) for section in SECTIONS} != mark.get("hashes"):
        raise ValueError("与它自己的校验值不符")
    return cast(Mark, mark)


def fault_of(folder: Path) -> str:
    """Why this checkpoint cannot be resumed (Chinese), or an empty string."""
    try:
        mark = read_mark(folder)
        processes = mark["identity"]["config"]["processes"]
    except FileNotFoundError:
        return "没有完成标记（保存时中断）"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"完成标记不能用：{first_line(error)}"
    if folder.name.startswith("checkpoint-") and folder.name != f"checkpoint-{mark['step']}":
        return f"完成标记属于 checkpoint-{mark['step']}"
    needed = [*NEEDED, *(random_state_file(rank, processes) for rank in range(processes))]
    missing = [name for name in needed if name not in mark["files"]] + broken_files(folder, mark["files"])
    if missing:
        return f"缺失或被改过：{'、'.join(missing)}"
    extra = sorted({p.name for p in folder.iterdir()} - {*mark["files"], MARK})
    return f"有来历不明的文件：{'、'.join(extra)}" if extra else ""


def step_of(checkpoint: Path) -> int:
    """The number in a checkpoint's name."""
    return int(checkpoint.name.rsplit("-", 1)[-1])


def checkpoints(output_dir: Path) -> list[Path]:
    """Everything called a checkpoint in ``output_dir``, whole or not, the latest first."""
    named = (p for p in output_dir.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdecimal())
    return sorted(filter(Path.is_dir, named), key=step_of, reverse=True)


def last_whole(output_dir: Path) -> str:
    """The last whole checkpoint, in words."""
    last = next((folder for folder in checkpoints(output_dir) if not fault_of(folder)), None)
    return f"最后完整的检查点是 {last}" if last else "还没有完整的检查点"


def find_checkpoint(wanted: str, output_dir: Path) -> tuple[Path | None, list[str]]:
    """Find the checkpoint to go on from.

    Args:
        wanted: ``auto`` (the last whole one in ``output_dir``; later broken ones are moved to ``SET_ASIDE``, each with
            its reason), ``none``, or a path.
        output_dir: Of the run.

    Returns:
        The checkpoint, or None to start fresh; and Chinese lines on what was taken and why.

    Raises:
        TrainingError: The path leads to none that is whole.
    """
    if wanted == "none":
        return None, []
    if wanted != "auto":
        folder = user_path(wanted)
        fault = fault_of(folder) if folder.is_dir() else "文件夹不存在"
        if fault:
            raise TrainingError(
                f"不能从 {folder} 续训", found=fault, todo="换一个检查点，或用 --resume_from_checkpoint auto。"
            )
        return folder, [f"从指定的检查点 {folder} 续训"]
    notes: list[str] = []
    for folder in checkpoints(output_dir):
        fault = fault_of(folder)
        if not fault:
            return folder, [*notes, f"从最后一个完整的检查点 {folder} 续训"]
        notes.append(f"{folder} 不能用：{fault}；已移到 {set_aside(folder, fault)}")
    return None, [*notes, f"{output_dir} 里没有可用的检查点，从头训练"]


def set_aside(folder: Path, fault: str) -> Path:
    """Move a broken checkpoint out of the way, the reason in a file with it; returns where it is now."""
    kept = fresh_folder(folder.parent / SET_ASIDE / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.rename(kept)  # onto an empty folder
    write_text(kept / "原因.txt", f"{fault}\n")
    return kept


def prune(output_dir: Path, keep: int) -> None:
    """Delete whole checkpoints older than the ``keep`` latest whole ones; broken ones neither count nor go."""
    whole = [folder for folder in checkpoints(output_dir) if not fault_of(folder)]
    for folder in whole[max(keep, 1) :]:
        discard(folder)


def discard(folder: Path) -> None:
    """Delete so that a kill in the middle leaves no half checkpoint under its name."""
    doomed = folder.with_name(f"{DISCARDED}{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
