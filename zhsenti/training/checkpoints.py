"""Which checkpoints count, and whether a run may go on from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zhsenti.artifact import broken_files, seal
from zhsenti.errors import TrainingError

MARK = "zhsenti_checkpoint.json"
NEEDED = ("optimizer.pt", "scheduler.pt", "trainer_state.json", "adapter_model.safetensors")


def seal_checkpoint(folder: Path, identity: dict[str, Any], micro_tokens: int) -> None:
    """Written last: a checkpoint without this mark, or that differs from it, does not exist for resume.

    ``micro_tokens`` is no part of the identity (it changes rounding alone), but resume keeps it, so as to be bit-equal.
    """
    seal(folder, MARK, {"identity": identity, "micro_tokens": micro_tokens})


def saved_micro_tokens(folder: Path) -> int:
    return int(json.loads((folder / MARK).read_text(encoding="utf-8"))["micro_tokens"])


def fault_of(folder: Path) -> str:
    """Why this checkpoint cannot be resumed (Chinese), or an empty string."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        files = mark["files"]
    except OSError:
        return "没有完成标记（保存时中断）"
    except (ValueError, KeyError, TypeError):
        return "完成标记已损坏"
    missing = [name for name in NEEDED if name not in files] + broken_files(folder, files)
    return f"缺失或被改过：{'、'.join(missing)}" if missing else ""


def find_checkpoint(wanted: str, output_dir: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume, or None to start fresh, and Chinese lines on what was taken and why.

    wanted: ``auto`` (last whole one in output_dir), ``none``, or a path. Raises TrainingError for a path that is no
    whole checkpoint.
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
    found = [p for p in output_dir.glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
    for folder in sorted(found, key=lambda p: -int(p.name.split("-")[-1])):
        fault = fault_of(folder)
        if not fault:
            return folder, [*notes, f"从最后一个完整的检查点 {folder} 续训"]
        notes.append(f"跳过 {folder}：{fault}")
    return None, [*notes, f"{output_dir} 里没有可用的检查点，从头训练"]


def check_same_run(folder: Path, identity: dict[str, Any]) -> None:
    """Refuse to resume with other data, task, base or settings: that would be a different run under the old name."""
    before = json.loads((folder / MARK).read_text(encoding="utf-8"))["identity"]
    now = json.loads(json.dumps(identity))
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        lines = "；".join(f"{key}：{_short(before.get(key))} → {_short(now.get(key))}" for key in changed)
        raise TrainingError(
            f"不能从 {folder} 续训：这次的设置与上次不同",
            found=lines,
            todo="改回原来的设置，或用 --resume_from_checkpoint none 从头训练。",
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
