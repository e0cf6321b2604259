"""``scripts/evaluate.py`` and ``evaluation/run_full_eval.py``: adapter, data, baselines -> JSONs and a report."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from zhsenti.artifact import WEIGHTS, Manifest, open_artifact
from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable
from zhsenti.core.flags import parse
from zhsenti.core.provenance import library_versions, machine_identity
from zhsenti.evaluation.baselines import Context, adapter_system, build_baselines, parse_baselines
from zhsenti.evaluation.compare import compare, slices
from zhsenti.evaluation.config import EvalConfig, FullEvalConfig
from zhsenti.evaluation.report.verdict import pair_sentence
from zhsenti.evaluation.rows import EvalData, load_eval_data, split_names
from zhsenti.evaluation.schema import ComparisonFile, Interval, MetricsFile, Provenance, SystemScores, write
from zhsenti.evaluation.scoring import EvalRows

if TYPE_CHECKING:
    from zhsenti.evaluation.baselines import Predictor
    from zhsenti.evaluation.sections.stages import Run

METRICS, COMPARISON = "metrics.json", "baseline_comparison.json"
# What a quick look takes where the user did not say otherwise.
QUICK: dict[str, Any] = {
    "max_test_samples": 160,
    "max_dev_samples": 120,
    "perturbation_samples": 20,
    "explain_errors": 2,
}


def main(argv: list[str] | None = None, *, adapter_only: bool = False) -> int:
    """Both scripts' body. Raises ZhsentiError for a user's mistake, and then nothing has been written."""
    kind = EvalConfig if adapter_only else FullEvalConfig
    config, sources = parse(kind, argv, "在测试数据上评估适配器" + ("" if adapter_only else "，并与基线比较，写成报告"))
    if isinstance(config, FullEvalConfig) and config.quick:
        config = replace(config, **{name: value for name, value in QUICK.items() if name not in sources})
    console = Console(stderr=True, highlight=False)
    for name, origin in sources.items():
        console.print(f"  {name} = {getattr(config, name)}（{origin}）", markup=False, soft_wrap=True)
    words = sys.argv[1:] if argv is None else argv
    door = "scripts/evaluate.py" if adapter_only else "evaluation/run_full_eval.py"
    run = evaluate(config, f"python {door} {shlex.join(words)}", console)
    folder = Path(config.output_dir)
    metrics, comparison = metrics_file(run), comparison_file(run)
    write(folder / METRICS, metrics)
    written = [METRICS]
    full = isinstance(config, FullEvalConfig)
    if full or len(run.systems) > 1:  # evaluate.py on the adapter alone does not replace a full comparison
        write(folder / COMPARISON, comparison)
        written.append(COMPARISON)
    show(comparison, Console(highlight=False))
    if full:
        from zhsenti.evaluation.report.write import full_report

        written += full_report(run, metrics, comparison, console)
    print(f"结果：{folder}（{'、'.join(written)}）")
    return 0


def evaluate(config: EvalConfig, command: str, console: Console) -> Run:
    """Load and score. Cheap checks come first: flags, adapter folders, data, and only then the model."""
    names = parse_baselines(config.baselines)
    check_writable(Path(config.output_dir))
    manifest = open_artifact(config.model_path).manifest
    others = {path: open_artifact(path).manifest for path in split_names(config.other_adapters)}
    for path, other in others.items():
        _check_same_task(manifest, path, other)
        check_base(other, config)
    _check_challenge(config)
    data = load_eval_data(config, manifest, list(others.values()))
    for note in data.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    predictor = load_predictor(config, config.model_path)

    machine = machine_identity()
    versions = {**library_versions(), "scikit-learn": metadata.version("scikit-learn")}

    def base_identity(of: Manifest) -> dict[str, Any]:
        return {
            "base": {key: of.base.get(key) for key in ("model_id", "revision", "precision", "use_qlora")},
            "task": of.task.to_dict(),
            "precision": config.precision,
            "machine": machine,
            "versions": versions,
        }

    context = Context(manifest.task, data.train, data.dev, data.splits.test, predictor, base_identity(manifest))
    systems = build_baselines(names, context)
    for number, (path, other) in enumerate(others.items(), start=2):
        systems.append(
            adapter_system(partial(load_predictor, config, path), _identity(other), base_identity(other), number)
        )
    systems.append(adapter_system(lambda: predictor, _identity(manifest), base_identity(manifest)))
    systems = [replace(item, prepare=cache(item.prepare)) if item.prepare else item for item in systems]
    rows = EvalRows(manifest.task.labels, data.splits.test, data.leak_free, manifest.task.has_aspect)
    compared = compare(systems, rows, Path(config.output_dir) / "cache", seed=config.seed)
    provenance = Provenance(
        command=command,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        quick=getattr(config, "quick", False),
        model={
            **_identity(manifest),
            "path": config.model_path,
            "base": manifest.base,
            "training_data": manifest.data,
            "other_adapters": {path: _identity(other) for path, other in others.items()},
        },
        data=_data_provenance(config, data, manifest),
        versions=versions,
        machine=machine,
    )
    from zhsenti.evaluation.sections.stages import Run

    return Run(config, manifest, data, rows, systems, compared, provenance)


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {"adapter_sha256": manifest.files[WEIGHTS], "method": manifest.method}


def _check_same_task(manifest: Manifest, path: str, other: Manifest) -> None:
    if (other.task.labels, other.task.has_aspect) != (manifest.task.labels, manifest.task.has_aspect):
        raise ConfigError(
            f"--other_adapters 里的 {path} 是另一种任务",
            expected="、".join(manifest.task.labels),
            found="、".join(other.task.labels),
            todo="只比较标签相同的适配器。",
        )


def check_base(manifest: Manifest, config: EvalConfig) -> None:
    """The base of an adapter that is loaded later, when its turn comes."""
    from zhsenti.prediction.predictor import find_base

    find_base(manifest, config.model_name)


def _check_challenge(config: EvalConfig) -> None:
    """A challenge file with a fault is an error now, not after twenty minutes."""
    if isinstance(config, FullEvalConfig) and config.challenge != "none":
        from zhsenti.evaluation.sections.robustness import challenge_path, load_challenge

        load_challenge(challenge_path(config.challenge))


def load_predictor(config: EvalConfig, path: str) -> Predictor:
    """The adapter without its stored temperature: an evaluation fits it and must see what it is fitted to."""
    from zhsenti.prediction.predictor import SentimentPredictor  # torch and transformers: seconds

    return SentimentPredictor.from_folder(
        path, model_name=config.model_name, precision=config.precision, temperature=1.0
    )


def metrics_file(run: Run) -> MetricsFile:
    adapter = next(item for item in run.compared.systems if item.name == "adapter")
    assert adapter.official is not None  # the adapter always applies
    right = run.compared.scored["adapter"].log_probs.argmax(axis=1) == run.true
    chosen = run.clean if run.clean.any() else ~run.clean
    columns = {
        name: [value for value, use in zip(values, chosen, strict=True) if use]
        for name, values in run.data.columns.items()
    }
    return MetricsFile(
        method=adapter.method,
        labels=list(run.rows.labels),
        official=adapter.official,
        leak_free=adapter.leak_free,
        leaks_checked=run.data.leaks_checked,
        slices=slices(right[chosen], columns),
        provenance=run.provenance,
        notes=[*run.data.notes, *adapter.notes],
    )


def comparison_file(run: Run) -> ComparisonFile:
    return ComparisonFile(
        labels=list(run.rows.labels),
        n_official=len(run.rows.leak_free),
        n_leak_free=sum(run.rows.leak_free),
        systems=run.compared.systems,
        pairs=run.compared.pairs,
        provenance=run.provenance,
        notes=run.data.notes,
    )


def _data_provenance(config: EvalConfig, data: EvalData, manifest: Manifest) -> dict[str, Any]:
    labels = manifest.task.labels
    counts = Counter(row.label for row in data.splits.test)
    return {
        "dataset": config.dataset,
        "name": data.splits.name,
        "source": data.splits.source,
        "sha256": data.splits.sha256,
        "n_test": len(data.splits.test),
        "n_train_for_baselines": len(data.train),
        "n_dev": len(data.splits.dev),
        "test_labels": {label: counts[k] for k, label in enumerate(labels)},
        "max_test_samples": config.max_test_samples,
        "seed": config.seed,
    }


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
        accuracies = [_cell(one.accuracy, one.accuracy_ci95) if one else "—" for one in (full, clean)]
        rest = [_cell(full.macro_f1, full.macro_f1_ci95), _cell(full.roc_auc, full.roc_auc_ci95)]
        table.add_row(title, *accuracies, *rest, speed)
    console.print(table)
    if any(item.contaminated for item in comparison.systems):
        console.print("* 训练语料含有测试数据，成绩不可作公平比较", markup=False)
    adapter = comparison.systems[-1]
    _show_confusion(adapter, comparison.labels, console)
    titles = {item.name: item.title for item in comparison.systems}
    for pair in comparison.pairs:
        if "adapter" in (pair.a, pair.b):
            console.print(pair_sentence(pair.readable(), titles), markup=False, soft_wrap=True)
    for item in comparison.systems:
        for note in item.notes:
            console.print(f"{item.title}：{note}", markup=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(f"数据：{note}", markup=False, soft_wrap=True)


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
    for row, one in zip(item.official.confusion, item.official.classes, strict=True):
        pairs = ((one.recall, one.recall_ci95), (one.precision, one.precision_ci95))
        rates = (_cell(value, interval).replace("\n", " ") for value, interval in pairs)
        table.add_row(one.label, *map(str, row), *rates)
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
