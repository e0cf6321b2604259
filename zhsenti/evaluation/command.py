"""``scripts/evaluate.py`` and ``evaluation/run_full_eval.py``: adapter, data, baselines -> one JSON and one table."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from zhsenti.artifact import WEIGHTS, Manifest, check_writable, library_versions, load_manifest
from zhsenti.config import DataConfig, EvalConfig, option, parse
from zhsenti.errors import DataError, ZhsentiError
from zhsenti.evaluation.baselines import Context, adapter_system, build_baselines, parse_baselines
from zhsenti.evaluation.compare import Comparison, EvalRows, Provenance, SystemResult, compare, write_comparison
from zhsenti.evaluation.metrics import Estimate

if TYPE_CHECKING:
    from zhsenti.data.sources import DatasetSplits
    from zhsenti.evaluation.baselines import Predictor

COMPARISON, ADAPTER_ALONE = "baseline_comparison.json", "metrics.json"


@dataclass
class AdapterEvalConfig(EvalConfig):
    """``scripts/evaluate.py``: the same flags, no baselines unless asked for."""

    baselines: str = option("none", "逗号分隔的基线：majority、snownlp、tfidf、zero_shot；none 为不跑")


def main(argv: list[str] | None = None, *, adapter_only: bool = False) -> int:
    """Both scripts' body. Raises ZhsentiError for a user's mistake, and then nothing has been written."""
    kind = AdapterEvalConfig if adapter_only else EvalConfig
    config, sources = parse(kind, argv, "在测试数据上评估适配器" + ("" if adapter_only else "，并与基线比较"))
    console = Console(stderr=True, highlight=False)
    for name, origin in sources.items():
        console.print(f"  {name} = {getattr(config, name)}（{origin}）", markup=False, soft_wrap=True)
    words = sys.argv if argv is None else [sys.argv[0], *argv]
    comparison = evaluate(config, shlex.join(words), console)
    # The adapter alone goes to a file of its own, so that a quick look never replaces a full comparison.
    path = Path(config.output_dir) / (COMPARISON if len(comparison.systems) > 1 else ADAPTER_ALONE)
    write_comparison(path, comparison)
    show(comparison, Console(highlight=False))
    print(f"结果：{path}")
    return 0


def evaluate(config: EvalConfig, command: str, console: Console) -> Comparison:
    """Load, score, measure. Cheap checks come first: flags, adapter folder, data, and only then the model."""
    names = parse_baselines(config.baselines)
    check_writable(Path(config.output_dir))
    manifest = load_manifest(config.model_path)
    data = load_eval_data(config, manifest)
    for note in data.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    predictor = load_predictor(config)

    machine = machine_description()
    versions = {**library_versions(), "scikit-learn": metadata.version("scikit-learn")}
    base_identity = {
        "base": {key: manifest.base.get(key) for key in ("model_id", "revision", "precision", "use_qlora")},
        "task": manifest.task.to_dict(),
        "precision": config.precision,
        "machine": machine,
        "versions": versions,
    }
    context = Context(manifest.task, data.train, data.splits.dev, data.splits.test, predictor, base_identity)
    adapter = {"adapter_sha256": manifest.files[WEIGHTS], "method": manifest.method}
    systems = [*build_baselines(names, context), adapter_system(context, adapter)]
    rows = EvalRows(manifest.task.labels, data.splits.test, data.leak_free, manifest.task.has_aspect)
    results = compare(systems, rows, Path(config.output_dir) / "cache", seed=config.seed)
    provenance = Provenance(
        command=command,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        model={**adapter, "path": config.model_path, "base": manifest.base, "training_data": manifest.data},
        data=_data_provenance(config, data, manifest),
        versions=versions,
        machine=machine,
    )
    n, clean = len(data.leak_free), sum(data.leak_free)
    return Comparison(list(manifest.task.labels), n, clean, results, provenance, data.notes)


@dataclass(frozen=True)
class EvalData:
    """``splits.test``: the rows to score;  ``train``: those baselines may fit on;  ``leak_free``: a flag a test row."""

    splits: DatasetSplits
    train: list[Any]
    leak_free: list[bool]
    notes: list[str]


def load_eval_data(config: EvalConfig, manifest: Manifest) -> EvalData:
    """The test rows and which of them are clean.

    A test row is leak-free when its text is neither in this data set's train rows nor, when the adapter was trained
    on other data, in those. Raises DataError when the data cannot be found or holds no test row.
    """
    from zhsenti.data.sources import load_dataset
    from zhsenti.data.split import sample

    trained = manifest.data
    auto = config.dataset == "auto"
    splits = _load_training_data(config, manifest) if auto else load_dataset(config, manifest.task)
    same = splits.sha256 == trained.get("sha256")
    if same and not auto and config.seed != trained.get("seed", config.seed):
        # Another seed would cut another split, and rows the adapter was trained on would become test rows.
        splits = load_dataset(replace(config, seed=trained["seed"]), manifest.task)
    if not splits.test:
        raise DataError(f"{splits.name} 没有测试数据", todo="用 --dataset 指定含测试部分的数据。")
    notes, seen = list(splits.notes), splits.train
    if not same:
        try:
            seen = splits.train + _load_training_data(config, manifest).train
            notes.append(
                f"适配器是在另一份数据（{trained.get('name', '未知')}）上训练的；“无泄漏”对两份训练数据都核对过"
            )
        except ZhsentiError as error:
            why = error.problem
            notes.append(f"适配器是在另一份数据上训练的，且现在找不到它（{why}）：“无泄漏”只核对了本数据的训练部分")
    if config.max_test_samples and config.max_test_samples < len(splits.test):
        notes.append(
            f"测试数据 {len(splits.test)} 条，按标签分层抽样 {config.max_test_samples} 条（种子 {config.seed}）"
        )
    splits = replace(splits, test=sample(splits.test, config.max_test_samples, config.seed))
    settings = manifest.training.get("settings", {}) if same else {}
    # By default baselines fit on the very rows the adapter was trained on.
    limit = config.max_train_samples or int(settings.get("max_train_samples", 0))
    train = sample(splits.train, limit, int(trained.get("seed", config.seed)) if same else config.seed)
    return EvalData(splits, train, replace(splits, train=seen).leak_free(), notes)


def _load_training_data(config: EvalConfig, manifest: Manifest) -> DatasetSplits:
    """The recorded data set, cut as it was for training. Raises DataError when it is gone or has changed."""
    from zhsenti.data.sources import load_dataset

    trained = manifest.data
    known = {f.name for f in fields(DataConfig)}
    recorded = {key: value for key, value in trained.items() if key in known}
    if recorded.get("dataset") in (None, "auto"):  # what auto found then, not what it would find now
        recorded["dataset"] = trained.get("name")
    shown = recorded["dataset"] or "（文件夹里没有记录）"
    todo = "用 --dataset 指定测试数据。"
    if not recorded["dataset"]:
        raise DataError(f"找不到训练时用的数据：{shown}", todo=todo)
    try:
        splits = load_dataset(DataConfig(**recorded), manifest.task)
    except DataError as error:
        raise DataError(f"找不到训练时用的数据：{shown}", found=error.problem, todo=todo) from error
    if trained.get("sha256") and splits.sha256 != trained["sha256"]:
        raise DataError(
            f"训练时用的数据已经变了：{shown}",
            expected=f"sha256 {trained['sha256'][:16]}…",
            found=f"sha256 {splits.sha256[:16]}…",
            todo="找回原来的数据，或" + todo,
        )
    return splits


def load_predictor(config: EvalConfig) -> Predictor:
    from zhsenti.prediction.predictor import SentimentPredictor  # torch and transformers: seconds

    return SentimentPredictor(config.model_path, model_name=config.model_name, precision=config.precision)


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


def machine_description() -> dict[str, Any]:
    """CPU model, cores, platform and GPU (None without one)."""
    import torch

    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux: the platform's own word for it
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": cpu, "cores": os.cpu_count(), "platform": platform.platform(), "gpu": gpu}


def show(comparison: Comparison, console: Console) -> None:
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
        title = item.title + (" *" if item.contaminated else "")
        if item.official is None:
            table.add_row(title, *["—"] * 4, speed)
            continue
        full, clean = item.official, item.leak_free
        accuracies = [_cell(full.accuracy), _cell(clean.accuracy) if clean else "—"]
        table.add_row(title, *accuracies, _cell(full.macro_f1), _cell(full.roc_auc), speed)
    console.print(table)
    if any(item.contaminated for item in comparison.systems):
        console.print("* 训练语料含有测试数据，成绩不可作公平比较", markup=False)
    adapter = comparison.systems[-1]
    _show_confusion(adapter, comparison.labels, console)
    for item in comparison.systems:
        for note in item.notes:
            console.print(f"{item.title}：{note}", markup=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(f"数据：{note}", markup=False, soft_wrap=True)


def _show_confusion(item: SystemResult, labels: list[str], console: Console) -> None:
    if item.official is None:
        return
    table = Table(
        title=f"{item.title}的混淆矩阵（官方，n={item.official.n}；行为真实，列为预测）",
        box=box.HORIZONTALS,
        pad_edge=False,
    )
    table.add_column("真实 \\ 预测")
    for head in (*labels, "召回率 %", "精确率 %"):
        table.add_column(head, justify="right")
    for row, one in zip(item.official.confusion, item.official.classes, strict=True):
        rates = (_cell(e).replace("\n", " ") for e in (one.recall, one.precision))
        table.add_row(one.label, *map(str, row), *rates)
    console.print(table)


def _cell(estimate: Estimate) -> str:
    """``92.7`` over ``[91.0, 94.0]``, in percent; a dash where the value is undefined (the JSON says why)."""
    if estimate.value is None:
        return "—"
    value = _percent(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n[{_percent(estimate.low)}, {_percent(estimate.high)}]"


def _speed(rows_per_second: float) -> str:
    return f"{rows_per_second:.1f}" if rows_per_second < 1000 else f"{rows_per_second:.0f}"


def _percent(share: float) -> str:
    return "100" if share == 1 else f"{100 * share:.1f}"
