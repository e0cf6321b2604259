"""What the user sees of a run before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from zhsenti.core.console import duration, gigabytes, plain_console, say
from zhsenti.data.split import Example
from zhsenti.models.backbone import unwrap
from zhsenti.models.decoder import is_known
from zhsenti.models.precision import slow_precision
from zhsenti.task import SentimentTask
from zhsenti.training.prepare import Parts

LONG_SECONDS = 3600


def show_plan(parts: Parts) -> None:
    """Print the table of the run, and what the user should know before it."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in _lines(parts):
        table.add_row(name, value)
    plain_console(stderr=True).print(table)
    for line in _notices(parts):
        say(f"注意：{line}")


def _lines(parts: Parts) -> list[tuple[str, str]]:
    plan, base, rows, task = parts.plan, parts.base, parts.rows, parts.method.task
    memory = "显存" if parts.device.type == "cuda" else "内存"
    recompute = "，激活重算（约慢三分之一）" if plan.fit.checkpointing else ""
    lengths = [len(item.ids) for item in parts.train_items]
    cut = sum(item.truncated for item in parts.train_items)
    return [
        ("方法", parts.method.title),
        ("基座", f"{base['model_id']}（{base['source']}）"),
        ("选择理由", str(base["reason"])),
        ("数据", f"{rows.splits.name}（{rows.splits.source}）"),
        ("训练集", f"{len(rows.train)} 条：{_counts(rows.train, task)}"),
        ("验证集", f"{len(rows.dev)} 条：{_counts(rows.dev, task)}"),
        ("长度", f"平均 {sum(lengths) / len(lengths):.0f} token，上限 {task.max_length}，被截断 {cut} 条"),
        ("设备", f"{parts.device}，{parts.precision.name}{'，4 比特基座' if plan.fit.qlora else ''}"),
        ("可训练参数", f"{plan.trainable:,} / {plan.total:,}（{plan.trainable / plan.total:.2%}）"),
        ("更新步数", f"{plan.steps}，有效批量 {parts.config.effective_batch}"),
        ("预计（估算）", f"约 {duration(plan.seconds)}，{memory}约 {gigabytes(plan.fit.memory)}"),
        ("内存安排", f"上限 {gigabytes(plan.budget)}：每次前向至多 {plan.fit.micro_tokens} token{recompute}"),
    ]


def _counts(rows: Sequence[Example], task: SentimentTask) -> str:
    counter = Counter(row.label for row in rows)
    return "，".join(f"{label} {counter[index]}" for index, label in enumerate(task.labels))


def _notices(parts: Parts) -> list[str]:
    config, plan = parts.config, parts.plan
    lines = parts.method.notices()
    if slow := slow_precision(parts.precision):
        lines.append(slow)
    if plan.fit.qlora and config.use_qlora is None:
        lines.append(
            "内存放不下 16 位的基座，改用 4 比特基座：结果会与不量化的略有不同。"
            "不想量化，请加大 --memory_budget、换小一号的基座，或加 --use_qlora false。"
        )
    if plan.fit.memory > plan.budget:
        lines.append(
            f"估计要 {gigabytes(plan.fit.memory)}，空闲只有 {gigabytes(plan.budget)}，可能中途内存不足；"
            "可减小 --max_length 或换小一号的基座。"
        )
    if not is_known(unwrap(parts.network).model):
        lines.append("这一类模型没有快速实现，走 transformers 的通用路径：慢一些，内存多一些。")
    elif config.fsdp:
        lines.append("基座分到各进程（FSDP），走 transformers 的通用路径：慢一些，激活占的内存比估计多。")
    elif config.lora_dropout > 0:
        lines.append("lora_dropout 大于 0 时走通用路径：慢约一半，内存可达估计的数倍。")
    if plan.seconds > LONG_SECONDS and not config.max_train_samples:
        lines.append("预计超过一小时；想先看结果，可加 --max_train_samples 2000 --num_epochs 1。")
    return lines
