"""One training run from a TrainConfig: data, model, plan, loop, saved adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zhsenti.core.errors import Interrupted, TrainingError
from zhsenti.core.files import check_writable, hold
from zhsenti.training.checkpoints import Identity, checkpoints, find_checkpoint, last_whole
from zhsenti.training.config import TrainConfig
from zhsenti.training.earlier import make_room, sweep
from zhsenti.training.failures import explained
from zhsenti.training.identity import check_same_run, keep_base
from zhsenti.training.processes import Processes
from zhsenti.training.rows import read_rows

if TYPE_CHECKING:
    from zhsenti.training.prepare import Parts

TRAINED_WEIGHT_BYTES = 16  # in a checkpoint: float32 weight, best weight so far, Adam's two moments


def train(config: TrainConfig, sources: Mapping[str, str] | None = None) -> Path:
    """Train as ``config`` says. Nothing is written before data, model and settings have been checked.

    Args:
        config: The settings, the method's name among them.
        sources: Setting -> where its value came from (命令行, a YAML), to be shown.

    Returns:
        The adapter folder.

    Raises:
        ZhsentiError: The user's mistake, or a run that cannot go on.
        KeyboardInterrupt: It was stopped; as ``Interrupted`` when a signal did it and all is saved.
    """
    processes, folder, task = Processes(), config.folder, config.resolved_task()
    check_writable(folder, "--output_dir")
    for name, origin in (sources or {}).items():
        processes.say(f"{name} = {getattr(config, name)}（{origin}）", indent=1)
    rows = read_rows(config, task)
    for note in rows.splits.notes:
        processes.say(note, indent=1)

    # torch and transformers take seconds, which are spent once the data is known to be good.
    from zhsenti.training.prepare import prepare

    with explained(folder), contextlib.ExitStack() as held:
        parts = prepare(keep_base(config, folder), task, rows, processes)
        identity = parts.identity
        _check_before_writing(parts, identity)
        if processes.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold(folder / ".lock", "训练", folder, "--output_dir", TrainingError))
        parts, checkpoint = _take_up(parts, identity)
        _train(parts, identity, checkpoint)
    return config.adapter


def _check_before_writing(parts: Parts, identity: Identity) -> None:
    """Check what the run will ask of the disk, and the checkpoint that the user named.

    Raises:
        TrainingError: There is too little room, or the checkpoint cannot be gone on from.
    """
    from zhsenti.training.resources import check_space

    config = parts.config
    folders = config.save_total_limit + 2  # one more while the next is written, and the adapter
    # A new run keeps the old one's checkpoints beside its own; one that goes on replaces them.
    replaced = checkpoints(config.folder) if config.resume_from_checkpoint != "none" else []
    check_space(config.folder, folders * TRAINED_WEIGHT_BYTES * parts.plan.trainable, replaced)
    if config.resume_from_checkpoint not in ("auto", "none"):
        _find(parts, identity)


def _find(parts: Parts, identity: Identity) -> tuple[Path | None, list[str]]:
    """As ``find_checkpoint``, in all processes; one that is found is of this very run.

    Raises:
        TrainingError: It is of another run, or not whole.
    """
    config = parts.config
    checkpoint, notes = parts.processes.from_main(lambda: find_checkpoint(config.resume_from_checkpoint, config.folder))
    if checkpoint is not None:
        check_same_run(checkpoint, identity)
    return checkpoint, notes


def _take_up(parts: Parts, identity: Identity) -> tuple[Parts, Path | None]:
    """Clear the output folder for this run, and show its plan; the parts as they go on, and from which checkpoint."""
    config, processes = parts.config, parts.processes
    notes = processes.from_main(lambda: sweep(config.folder))
    checkpoint, found = _find(parts, identity)
    for note in [*notes, *found]:
        processes.say(note, indent=1)
    if checkpoint is not None:
        parts = parts.going_on_from(checkpoint)
    if processes.is_main:
        from zhsenti.training.plan_view import show_plan

        show_plan(parts)
    moved = processes.from_main(lambda: make_room(config.folder, checkpoint, config.save_total_limit))
    if moved:
        processes.say(moved, indent=1)
    return parts, checkpoint


def _train(parts: Parts, identity: Identity, checkpoint: Path | None) -> None:
    """Train and save; a run that is stopped says how to go on."""
    from zhsenti.training.callbacks import ResultsLog
    from zhsenti.training.finish import finish
    from zhsenti.training.session import Session

    folder, processes = parts.config.folder, parts.processes
    log = ResultsLog(folder / "train_results.json" if processes.is_main else None)
    try:
        result = Session(parts, identity, folder, log).run(checkpoint)
        if processes.is_main:
            finish(parts, result, parts.config.adapter, log)
    except KeyboardInterrupt as stop:
        processes.say(f"已停止，{last_whole(folder)}。继续训练：同一条命令加 --resume_from_checkpoint auto")
        if isinstance(stop, Interrupted):  # which all processes are, at the same step
            log.write("stop", signal=stop.exit_code - 128)
            processes.leave()
        raise
    processes.leave()
