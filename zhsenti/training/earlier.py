"""What an earlier run left in the output folder, and how it gets out of the way of the run that begins."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from zhsenti.core.files import fresh_folder, recover
from zhsenti.core.paths import ADAPTER
from zhsenti.training.checkpoints import DISCARDED, UNFINISHED, checkpoints, prune, read_mark, step_of


def sweep(output_dir: Path) -> list[str]:
    """Recover the adapter of a killed run, and remove what is unfinished; Chinese lines on it."""
    recover(output_dir / ADAPTER)
    ours = re.compile(rf"({re.escape(UNFINISHED)}|{re.escape(DISCARDED)})checkpoint-\d+")
    left = [path for path in output_dir.iterdir() if ours.fullmatch(path.name)] if output_dir.is_dir() else []
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    names = "、".join(p.name.removeprefix(UNFINISHED) for p in left if p.name.startswith(UNFINISHED))
    return [f"上次中断时没存完的 {names} 已清除"] if names else []


def make_room(output_dir: Path, checkpoint: Path | None, keep: int) -> str:
    """Move out of the way what is not of the run that begins now.

    Args:
        output_dir: Where it will write.
        checkpoint: What it goes on from; None for a fresh run.
        keep: How many checkpoints it keeps.

    Returns:
        A Chinese line on what was moved, or an empty one.
    """
    if checkpoint is None:
        kept = _set_aside_run(output_dir)
        return f"上一次的结果已移到 {kept}" if kept else ""
    moved = _set_aside_later(output_dir, checkpoint)
    prune(output_dir, keep)  # a run that was killed before it pruned may have left one too many
    return moved


def _set_aside_later(output_dir: Path, taken: Path) -> str:
    """Move the checkpoints of ``output_dir`` that lie behind ``taken``; where it is none of them, all of them."""
    existing = checkpoints(output_dir)
    inside = any(folder.samefile(taken) for folder in existing)
    later = [folder for folder in existing if not inside or step_of(folder) > read_mark(taken)["step"]]
    if not later:
        return ""
    kept = fresh_folder(output_dir / f"previous-{time.strftime('%Y%m%d-%H%M%S')}")
    for folder in later:
        folder.rename(kept / folder.name)
    return f"{'、'.join(folder.name for folder in later)} 不在这次的路上，已移到 {kept}"


def _set_aside_run(output_dir: Path) -> Path | None:
    """Keep an earlier run: its adapter is copied (its path stays usable), its log and checkpoints move away."""
    adapter = output_dir / ADAPTER
    earlier = list(output_dir.glob("checkpoint-*")) + [
        p for p in (output_dir / "train_results.json", output_dir / "tensorboard") if p.exists()
    ]
    if not earlier and not adapter.is_dir():
        return None
    kept = fresh_folder(output_dir / f"previous-{time.strftime('%Y%m%d-%H%M%S')}")
    if adapter.is_dir():  # before anything moves: a run that is killed here finds all of it at its next start
        shutil.copytree(adapter, kept / adapter.name)
    for path in earlier:
        path.rename(kept / path.name)
    return kept
