"""The comparison on the console: tables that fit 80 columns, and sentences below them."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from zhsenti.evaluation.compare import ComparisonFile
from zhsenti.evaluation.schema import Interval, SystemScores
from zhsenti.evaluation.systems import ADAPTER
from zhsenti.evaluation.wording import pair_sentence


def show(comparison: ComparisonFile, console: Console) -> None:
    """The comparison and the adapter's confusion matrix as tables that fit 80 columns, notes below them."""
    table = Table(box=box.HORIZONTALS, pad_edge=False, collapse_padding=True, show_lines=True)
    heads = [
        f"准确率\n官方\nn={comparison.n_official}",
        f"准确率\n无泄漏\nn={comparison.n_leak_free}",
        "宏 F1\n官方",
        "ROC-AUC\n官方",
        "条/秒",
    ]
    table.add_column("系统（% 与\n95 % 区间）", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for item in comparison.systems:
        speed = "—" if item.rows_per_second is None else _speed(item.rows_per_second)
        title = item.title.replace(" + LoRA", "\n+ LoRA") + (" *" if item.contaminated else "")
        if item.official is None:
            table.add_row(title, *["—"] * 4, speed)
            continue
        full, clean = item.official, item.leak_free
        accuracies = [_cell(scores.accuracy, scores.accuracy_ci95) if scores else "—" for scores in (full, clean)]
        rest = [_cell(full.macro_f1, full.macro_f1_ci95), _cell(full.roc_auc, full.roc_auc_ci95)]
        table.add_row(title, *accuracies, *rest, speed)
    console.print(table)
    if any(item.contaminated for item in comparison.systems):
        console.print("* 训练语料含有测试数据，成绩不可作公平比较")
    adapter = comparison.systems[-1]
    _show_confusion(adapter, comparison.labels, console)
    titles = {item.name: item.title for item in comparison.systems}
    for pair in comparison.pairs:
        if ADAPTER in (pair.a, pair.b):
            console.print(pair_sentence(pair.readable(), titles), soft_wrap=True)
    for item in comparison.systems:
        for note in item.notes:
            console.print(f"{item.title}：{note}", soft_wrap=True)
    for note in comparison.notes:
        console.print(f"数据：{note}", soft_wrap=True)


def _show_confusion(item: SystemScores, labels: list[str], console: Console) -> None:
    if item.official is None:
        return
    table = Table(
        title=f"{item.title}的混淆矩阵（官方，n={item.official.n}；行：真实标签；列：预测标签）",
        box=box.HORIZONTALS,
        pad_edge=False,
    )
    table.add_column("真实 \\ 预测")
    for head in (*labels, "召回率 %", "精确率 %"):
        table.add_column(head, justify="right")
    for row, label in zip(item.official.confusion, item.official.classes, strict=True):
        pairs = ((label.recall, label.recall_ci95), (label.precision, label.precision_ci95))
        rates = (_cell(value, interval).replace("\n", " ") for value, interval in pairs)
        table.add_row(label.label, *map(str, row), *rates)
    console.print(table)


def _cell(value: float | None, interval: Interval | None) -> str:
    """``92.7`` over ``[91.0, 94.0]``, in percent; a dash where the value is undefined (the JSON says why)."""
    if value is None:
        return "—"
    if interval is None:
        return _percent(value)
    return f"{_percent(value)}\n[{_percent(interval[0])}, {_percent(interval[1])}]"


def _speed(rows_per_second: float) -> str:
    return f"{rows_per_second:.1f}" if rows_per_second < 1000 else f"{rows_per_second:.0f}"


def _percent(share: float) -> str:
    return "100" if share == 1 else f"{100 * share:.1f}"
