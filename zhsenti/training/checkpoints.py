"""Which checkpoints exist, which of them count, and whether this run may go on from one.

A checkpoint is a folder that holds all that resume needs (adapter, best adapter so far, optimizer, schedule, RNG and
trainer state). It is written under a hidden name, its mark (``MARK``, with the SHA-256 of every other file) last, and
then renamed: what is called checkpoint-N was whole once, and the mark tells whether it still is.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from zhsenti.artifact import WEIGHTS, broken_files, seal
from zhsenti.core.errors import TrainingError, first_line
from zhsenti.core.files import fresh_folder, recover, swap_in, write_text
from zhsenti.core.hashing import json_sha256
from zhsenti.models.untrusted import read_json

MARK = "zhsenti_checkpoint.json"
FORMAT = 2
BEST = "best_adapter.safetensors"  # the best adapter before this step; absent when this step's own is the best
STATE = "trainer_state.json"
NEEDED = ("optimizer.pt", "scheduler.pt", STATE, WEIGHTS)
UNFINISHED = ".unfinished-"
DISCARDED = ".discarded-"
SET_ASIDE = "broken"
SECTIONS = {"config": "设置", "data": "数据", "task": "任务", "base": "基座"}


def random_state_file(rank: int, processes: int) -> str:
    """transformers' name for a process's random state."""
    return "rng_state.pth" if processes == 1 else f"rng_state_{rank}.pth"


def commit(
    unfinished: Path, folder: Path, identity: dict[str, Any], *, step: int, micro_tokens: int, seconds: float
) -> None:
    """Mark what was written to ``unfinished`` as whole and give it its name.

    ``identity`` has the ``SECTIONS`` of a run. ``micro_tokens`` is no part of it (it changes rounding alone), but
    resume keeps it, so as to be bit-equal; ``seconds`` of training it took to come here.
    """
    hashes = {section: json_sha256(identity[section]) for section in SECTIONS}
    progress = {"step": step, "micro_tokens": micro_tokens, "seconds": round(seconds, 1)}
    seal(unfinished, MARK, {"format": FORMAT, **progress, "hashes": hashes, "identity": identity})
    swap_in(unfinished, folder)  # a run that went back to an earlier checkpoint comes by here again


def read_mark(folder: Path) -> dict[str, Any]:
    """Raises OSError, or ValueError where it is no mark of this format."""
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
    return mark


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
    return int(checkpoint.name.rsplit("-", 1)[-1])


def checkpoints(output_dir: Path) -> list[Path]:
    """Everything called a checkpoint in ``output_dir``, whole or not, the latest first."""
    named = (p for p in output_dir.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdecimal())
    return sorted(filter(Path.is_dir, named), key=step_of, reverse=True)


def last_whole(output_dir: Path) -> str:
    """The last whole checkpoint, in words."""
    found = next((folder for folder in checkpoints(output_dir) if not fault_of(folder)), None)
    return f"最后完整的检查点是 {found}" if found else "还没有完整的检查点"


def find_checkpoint(wanted: str, output_dir: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume, or None to start fresh, and Chinese lines on what was taken and why.

    wanted: ``auto`` (last whole one in output_dir; later broken ones are moved to ``SET_ASIDE`` with the reason),
    ``none``, or a path. Raises TrainingError for one that is not whole.
    """
    if wanted == "none":
        return None, []
    if wanted != "auto":
        folder = Path(wanted)
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
    """Move a broken checkpoint out of the way, with the reason in a file beside its own."""
    kept = fresh_folder(folder.parent / SET_ASIDE / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.rename(kept)  # onto an empty folder
    write_text(kept / "原因.txt", f"{fault}\n")
    return kept


def retire_later(output_dir: Path, taken: Path) -> str:
    """Move checkpoints of ``output_dir`` that are later than ``taken``, or of another run, where it is not one of them,
    out of the way of what comes now; a Chinese line on it, or an empty one."""
    found = checkpoints(output_dir)
    inside = any(folder.samefile(taken) for folder in found)
    later = [folder for folder in found if not inside or step_of(folder) > read_mark(taken)["step"]]
    if not later:
        return ""
    kept = fresh_folder(output_dir / f"previous-{time.strftime('%Y%m%d-%H%M%S')}")
    for folder in later:
        folder.rename(kept / folder.name)
    return f"{'、'.join(folder.name for folder in later)} 不在这次的路上，已移到 {kept}"


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


def sweep(output_dir: Path, adapter: Path) -> list[str]:
    """Recover the adapter of a killed run, and remove what is unfinished; Chinese lines on it."""
    recover(adapter)
    left = [p for prefix in (UNFINISHED, DISCARDED) for p in output_dir.glob(f"{prefix}*")]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    names = "、".join(p.name.removeprefix(UNFINISHED) for p in left if p.name.startswith(UNFINISHED))
    return [f"上次中断时没存完的 {names} 已清除"] if names else []


def check_same_run(folder: Path, identity: dict[str, Any]) -> None:
    """Refuse to resume with other data, task, base or settings: that would be a different run under the old name."""
    before, now = _flat(read_mark(folder)["identity"]), _flat(json.loads(json.dumps(identity)))
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        lines = "；".join(f"{key}：{_short(before.get(key))} → {_short(now.get(key))}" for key in changed)
        raise TrainingError(
            f"不能从 {folder} 续训：这次的设置与上次不同",
            found=lines,
            todo="改回原来的设置，或用 --resume_from_checkpoint none 从头训练。",
        )


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """``identity`` by the names users know: settings by their flag, the task's parts one by one."""
    task = {f"task.{key}": value for key, value in identity["task"].items()}
    return {**identity["config"], **task, "数据（SHA-256）": identity["data"], "基座（SHA-256）": identity["base"]}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
