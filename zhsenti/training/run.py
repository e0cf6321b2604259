"""One training run from a TrainConfig: data, model, plan, loop, saved adapter."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError

from zhsenti.artifact import Manifest, save_artifact
from zhsenti.core.errors import DataError, Interrupted, TrainingError, first_line
from zhsenti.core.files import check_writable, fresh_folder, hold
from zhsenti.core.hashing import rows_sha256
from zhsenti.core.provenance import library_versions
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import DatasetSplits, Example, sample
from zhsenti.task import SentimentTask
from zhsenti.training.checkpoints import checkpoints, last_whole, prune, read_mark, retire_later, sweep
from zhsenti.training.config import TrainConfig
from zhsenti.training.interrupts import explained, is_disk_error
from zhsenti.training.processes import Processes

# Settings that do not change the weights: free to differ between a run and its resumption.
NOT_IDENTITY = {
    "model_name", "dataset", "text_column", "label_column", "aspect_column", "task", "output_dir",
    "resume_from_checkpoint", "wandb_project", "run_name", "logging_steps", "save_total_limit", "num_processes",
    "gradient_checkpointing", "memory_budget", "on_error",
}  # fmt: skip


def train(config: TrainConfig, sources: dict[str, str] | None = None) -> Path:
    """Train as ``config`` says; returns the adapter folder.

    Nothing is written before data, model and settings have been checked. Raises ZhsentiError for a user's mistake.
    """
    processes = Processes()
    console = Console(stderr=True, highlight=False, quiet=not processes.is_main)
    output_dir = Path(config.output_dir or f"experiments/{config.method}")
    adapter = output_dir / "lora_adapter"
    task = config.resolved_task()
    check_writable(output_dir)
    for name, origin in (sources or {}).items():
        console.print(f"  {name} = {getattr(config, name)}（{origin}）", markup=False, soft_wrap=True)

    splits = load_dataset(config, task)
    train_rows = _limit(splits.train, config.max_train_samples, config.seed, task, "训练集")
    dev_rows = sample(splits.dev, config.max_dev_samples, config.seed)
    for note in splits.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)

    from zhsenti.training.session import Session  # torch and transformers: seconds, paid after the data is known good

    config = _as_before(config, output_dir)
    with contextlib.ExitStack() as held:
        held.enter_context(explained(output_dir))
        session = Session(config, task, train_rows, dev_rows, processes)
        identity = _identity(config, session, processes, rows_sha256(row.cells for row in [*train_rows, *dev_rows]))
        session.check_space(output_dir)
        if config.resume_from_checkpoint not in ("auto", "none"):
            session.find_checkpoint(config.resume_from_checkpoint, output_dir, identity)  # before anything is written
        if processes.is_main:
            output_dir.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold(output_dir / ".lock", "训练", output_dir, "--output_dir", TrainingError))
        notes = processes.from_main(lambda: sweep(output_dir, adapter))
        checkpoint, found = session.find_checkpoint(config.resume_from_checkpoint, output_dir, identity)
        for note in [*notes, *found]:
            console.print(f"  {note}", markup=False, soft_wrap=True)
        _show_plan(console, session, splits, task)
        moved = processes.from_main(lambda: _make_room(output_dir, checkpoint, config.save_total_limit))
        if moved:
            console.print(f"  {moved}", markup=False, soft_wrap=True)
        try:
            result = session.run(output_dir, checkpoint, identity, console)
            if processes.is_main:
                _finish(adapter, config, session, splits, result, console)
        except KeyboardInterrupt as stop:
            console.print(
                f"已停止，{last_whole(output_dir)}。继续训练：同一条命令加 --resume_from_checkpoint auto",
                markup=False,
                soft_wrap=True,
            )
            if isinstance(stop, Interrupted):  # which all processes are, at the same step
                session.log.write("stop", signal=stop.exit_code - 128)
                processes.leave()
            raise
        processes.leave()
    return adapter


def _as_before(config: TrainConfig, output_dir: Path) -> TrainConfig:
    """Whether the base is in 4 bits is decided by free memory where nobody has said; a run that goes on keeps it."""
    wanted = config.resume_from_checkpoint
    if wanted == "none" or config.use_qlora is not None:
        return config
    for folder in checkpoints(output_dir) if wanted == "auto" else [Path(wanted)]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return dataclasses.replace(config, use_qlora=bool(read_mark(folder)["identity"]["config"]["use_qlora"]))
    return config


def _make_room(output_dir: Path, checkpoint: Path | None, keep: int) -> str:
    """Move what is not of the run that begins now out of its way; a Chinese line on it, or an empty one."""
    if checkpoint is None:
        kept = _set_aside(output_dir)
        return f"上一次的结果已移到 {kept}" if kept else ""
    moved = retire_later(output_dir, checkpoint)
    prune(output_dir, keep)  # what a kill kept from it
    return moved


def _identity(config: TrainConfig, session: Any, processes: Processes, data: str) -> dict[str, Any]:
    """What may not change between a run and its resumption: all that decides the weights."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in NOT_IDENTITY}
    decided = {
        "method": session.method.name,
        "precision": session.precision.name,
        "use_qlora": session.base["use_qlora"],
        "processes": processes.count,
    }
    task = session.method.task
    return {
        "config": {**settings, **decided, "max_length": task.max_length},
        "task": task.to_dict(),
        "data": data,
        "base": session.base["revision"],
    }


def _finish(
    adapter: Path, config: TrainConfig, session: Any, splits: DatasetSplits, result: dict[str, Any], console: Console
) -> None:
    """Write the adapter folder and the log's last line, and say so. Raises TrainingError when the disk is full."""
    data = {
        "name": splits.name,
        "sha256": splits.sha256,
        "n_train": len(session.train_rows),
        "n_dev": len(session.dev_rows),
        **{f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name in _DATA_KEYS},
    }
    settings = {
        f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _DATA_KEYS | {"method"}
    }
    training = {"settings": {**settings, "task": None}, "result": result}
    method = session.method
    try:
        save_artifact(adapter, session.network, Manifest(method.name, method.task, session.base, data, training))
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_disk_error(error):
            raise
        raise TrainingError(
            "训练完成了，但适配器写不进磁盘",
            found=f"{first_line(error)}；{last_whole(adapter.parent)}",
            todo="腾出空间后，同一条命令加 --resume_from_checkpoint auto：有检查点就接着它，没有就从头训练。",
        ) from error
    session.log.write(
        "summary", adapter=str(adapter), data=data, base=session.base, versions=library_versions(), **result
    )
    low, high = result["dev_accuracy_interval"]
    lines = [
        f"完成：验证准确率 {result['dev_accuracy']:.2%}"
        f"（n={result['n_dev']}，95 % 区间 {low:.2%}–{high:.2%}），"
        f"{result['seconds'] / 60:.1f} 分钟，{result['reviews_per_second']:.2f} 条/秒。",
        f"适配器：{adapter}",
    ]
    if session.log.waiting:
        lines.append(f"注意：磁盘写不下，{session.log.path} 里少了最后 {len(session.log.waiting)} 行。")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


_DATA_KEYS = {"dataset", "text_column", "label_column", "aspect_column", "duplicates", "conflicts", "on_error", "seed"}


def _limit(rows: list[Example], limit: int, seed: int, task: SentimentTask, where: str) -> list[Example]:
    chosen = sample(rows, limit, seed)
    present = {row.label for row in chosen}
    if len(present) < 2:
        only = "、".join(task.labels[i] for i in sorted(present)) or "无"
        raise DataError(
            f"{where}只有一类标签",
            expected="至少两类",
            found=f"{len(chosen)} 条，标签：{only}",
            todo="补充另一类的数据。",
        )
    return chosen


def _show_plan(console: Console, session: Any, splits: DatasetSplits, task: SentimentTask) -> None:
    plan, base = session.plan, session.base
    table = Table(show_header=False, box=None, padding=(0, 2))
    counts = {
        where: "，".join(f"{label} {n}" for label, n in zip(task.labels, _counts(rows, task), strict=True))
        for where, rows in (("train", session.train_rows), ("dev", session.dev_rows))
    }
    memory = "显存" if session.device.type == "cuda" else "内存"
    recompute = "，激活重算（约慢三分之一）" if plan.fit.checkpointing else ""
    cut = sum(item.truncated for item in session.train_items)
    rows = [
        ("方法", session.method.title),
        ("基座", f"{base['model_id']}（{base['source']}）"),
        ("选择理由", base["reason"]),
        ("数据", f"{splits.name}（{splits.source}）"),
        ("训练集", f"{len(session.train_rows)} 条：{counts['train']}"),
        ("验证集", f"{len(session.dev_rows)} 条：{counts['dev']}"),
        ("长度", f"平均 {session.mean_length:.0f} token，上限 {task.max_length}，被截断 {cut} 条"),
        ("设备", f"{session.device}，{session.precision.name}{'，4 比特基座' if plan.fit.qlora else ''}"),
        ("可训练参数", f"{plan.trainable:,} / {plan.total:,}（{plan.trainable / plan.total:.2%}）"),
        ("更新步数", f"{plan.steps}，有效批量 {session.effective_batch}"),
        ("预计（估算）", f"约 {max(plan.seconds / 60, 0.1):.1f} 分钟，{memory}约 {plan.fit.memory / 1e9:.1f} GB"),
        ("内存安排", f"上限 {plan.budget / 1e9:.1f} GB：每次前向至多 {plan.fit.micro_tokens} token{recompute}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    notices = session.notices()
    if plan.seconds > 3600 and not session.config.max_train_samples:
        notices.append("预计超过一小时；想先看结果，可加 --max_train_samples 2000 --num_epochs 1。")
    for line in notices:
        console.print(f"注意：{line}", markup=False, soft_wrap=True)


def _counts(rows: list[Example], task: SentimentTask) -> list[int]:
    counter = Counter(row.label for row in rows)
    return [counter[i] for i in range(len(task.labels))]


def _set_aside(output_dir: Path) -> Path | None:
    """Keep an earlier run: its adapter is copied (its path stays usable), its log and checkpoints move away."""
    adapter = output_dir / "lora_adapter"
    earlier = list(output_dir.glob("checkpoint-*")) + [
        p for p in (output_dir / "train_results.json", output_dir / "tensorboard") if p.exists()
    ]
    if not earlier and not adapter.is_dir():
        return None
    kept = fresh_folder(output_dir / f"previous-{time.strftime('%Y%m%d-%H%M%S')}")
    if adapter.is_dir():  # first: after a kill in the middle the next run finds the rest and does all of it again
        shutil.copytree(adapter, kept / adapter.name)
    for path in earlier:
        path.rename(kept / path.name)
    return kept
