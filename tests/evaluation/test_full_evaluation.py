"""The whole evaluation on a keyword predictor: every file, the cache, a kill, the stored temperature, quick runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pyarrow import parquet

from tests.evaluation.whole import read, run, trained_on
from tests.fakes import BAD, GOOD, KeywordPredictor, write_adapter
from tests.paths import ENV
from zhsenti.artifact import open_artifact, store_calibration
from zhsenti.audit.findings import Audit
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.evaluation import command
from zhsenti.evaluation.compare import ComparisonFile
from zhsenti.evaluation.sections.comparison import MetricsFile
from zhsenti.evaluation.sections.confidence import ConfidenceFile
from zhsenti.evaluation.sections.errors import ErrorsFile
from zhsenti.evaluation.sections.robustness import RobustnessFile
from zhsenti.task import SentimentTask


def test_every_file_is_there_typed_and_agrees(adapter, predictor):
    out = run(adapter, "--slice_columns", "店", "--perturbation_samples", "30")
    metrics, comparison = (
        read(out / "metrics.json", MetricsFile),
        read(out / "baseline_comparison.json", ComparisonFile),
    )
    confidence = read(out / "confidence_analysis.json", ConfidenceFile)
    robustness, errors = read(out / "robustness_result.json", RobustnessFile), read(out / "errors.json", ErrorsFile)

    assert (metrics.official.n, metrics.leak_free.n) == (120, 119)
    adapter_row = next(item for item in comparison.systems if item.name == "adapter")
    assert adapter_row.official == metrics.official
    by_shop = {item.value: item.n for item in metrics.slices if item.column == "店"}
    assert sum(by_shop.values()) == metrics.leak_free.n
    assert set(by_shop) == {"甲", "乙"}

    table = parquet.read_table(out / "predictions.parquet").to_pylist()
    assert [row["row"] for row in table] == list(range(1, 121))
    assert np.mean([row["correct"] for row in table]) == pytest.approx(metrics.official.accuracy)
    assert sum(not row["leak_free"] for row in table) == 1
    assert all(row["confidence"] == pytest.approx(max(row["p_负面"], row["p_正面"])) for row in table)
    assert errors.n_errors == sum(not row["correct"] for row in table)

    # 12 % of rows contradict their words and the fake is sure of itself: the temperature must cool it down.
    assert confidence.temperature > 1.5
    assert confidence.ece_after < confidence.ece_before
    assert confidence.n_fit == 200
    assert robustness.challenge.n == 512
    assert robustness.challenge.n_unscored == 60
    assert set(robustness.challenge.systems) == {"snownlp", "tfidf", "zero_shot"}
    assert all(item.n <= 30 and item.ci95[0] <= item.rate <= item.ci95[1] for item in robustness.flip_rate.values())
    assert len(robustness.flip_rate) >= 6
    for name in ("roc", "pr", "confusion", "reliability", "coverage", "robustness"):
        assert (out / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for name in ("errors.csv", "low_confidence.csv", "audit_findings.csv"):
        assert (out / name).read_bytes().startswith(b"\xef\xbb\xbf")


def test_for_scripts_the_promised_keys(adapter, predictor):
    out = run(adapter, "--perturbation_samples", "5")
    load = lambda name: json.loads((out / name).read_text(encoding="utf-8"))  # noqa: E731
    metrics = load("metrics.json")
    for part in (metrics["official"], metrics["leak_free"]):
        assert isinstance(part["n"], int)
        assert part["accuracy_ci95"][0] < part["accuracy"] < part["accuracy_ci95"][1]
        assert 0 < part["macro_f1"] < 1
    assert {"ece_before", "ece_after", "temperature"} <= set(load("confidence_analysis.json"))
    robustness = load("robustness_result.json")
    assert {"accuracy", "n", "by_category"} <= set(robustness["challenge"])
    assert all({"rate", "ci95", "n"} <= set(item) for item in robustness["flip_rate"].values())
    comparison = load("baseline_comparison.json")
    assert all({"name", "method", "official", "leak_free", "contaminated"} <= set(s) for s in comparison["systems"])
    assert all({"a", "b", "difference", "ci95", "p_value"} <= set(pair) for pair in comparison["pairs"])
    assert len(comparison["pairs"]) == 10


def test_a_second_run_computes_nothing(adapter, predictor, monkeypatch):
    out = run(adapter, "--perturbation_samples", "20")
    before = (out / "robustness_result.json").read_bytes()
    assert predictor.twin.calls
    predictor.calls.clear()
    predictor.twin = None
    monkeypatch.setattr("zhsenti.audit.run.audit_splits", lambda *a, **k: pytest.fail("audited again"))
    run(adapter, "--perturbation_samples", "20")
    assert predictor.calls == []
    assert predictor.twin is None  # the zero-shot one was not even asked for
    old, new = json.loads(before), json.loads((out / "robustness_result.json").read_bytes())
    del old["provenance"], new["provenance"]
    assert old == new


def test_the_temperature_goes_into_the_adapter(adapter, predictor):
    out = run(adapter)
    found = read(out / "confidence_analysis.json", ConfidenceFile)
    manifest = open_artifact(adapter).manifest
    assert found.stored_in_adapter
    assert manifest.temperature == found.temperature
    assert manifest.calibration["n"] == 200


def test_an_older_temperature_that_stays_is_said(adapter, predictor):
    store_calibration(open_artifact(adapter), {"temperature": 3.0})
    out = run(adapter, "--quick")
    assert any("温度 3.00，预测仍用它" in note for note in read(out / "confidence_analysis.json", ConfidenceFile).notes)


@pytest.mark.parametrize("flags", [["--quick"], ["--dataset", "other"]])
def test_a_temperature_of_another_kind_is_not_stored(adapter, data, predictor, tmp_path, flags):
    if flags[-1] == "other":
        other = tmp_path / "other"
        shutil.copytree(data, other)
        with (other / "train.csv").open("a", encoding="utf-8") as stream:
            stream.write("多出来的一行,1,甲\n")
        flags = ["--dataset", str(other)]
    out = run(adapter, *flags)
    found = read(out / "confidence_analysis.json", ConfidenceFile)
    assert not found.stored_in_adapter
    assert found.notes
    assert open_artifact(adapter).manifest.calibration == {}
    assert "没有存进适配器" in (out / "report.html").read_text(encoding="utf-8")
    assert not (adapter / "README.md").exists()


def test_a_temperature_of_another_precision_is_not_stored(adapter, predictor):
    """Nobody asked for one: an fp16 adapter on a machine without a GPU computes in another one by itself."""
    predictor.precision = SimpleNamespace(name="bf16")
    found = read(run(adapter) / "confidence_analysis.json", ConfidenceFile)
    assert not found.stored_in_adapter
    assert found.notes == ["温度是在 bf16 下拟合的（训练时是 fp32），没有存进适配器"]
    assert open_artifact(adapter).manifest.calibration == {}
    assert (adapter / "README.md").exists()


def test_an_adapter_folder_that_cannot_be_written_is_said_and_costs_nothing(adapter, predictor, monkeypatch, capsys):
    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("zhsenti.evaluation.sections.confidence.store_calibration", refuse)
    monkeypatch.setattr("zhsenti.evaluation.report.card.write_text", refuse)
    monkeypatch.setattr("zhsenti.evaluation.report.write.write_card", lambda path, *rest: path.write_text("卡"))
    out = run(adapter)
    assert "没能存进" in read(out / "confidence_analysis.json", ConfidenceFile).notes[0]
    assert "模型卡没能写进适配器文件夹" in capsys.readouterr().err
    assert (out / "report.html").is_file()


def test_an_adapter_that_a_training_has_replaced_meanwhile_gets_nothing(adapter, predictor, capsys):
    """The temperature and the card are those of the adapter that was evaluated."""
    other = write_adapter(adapter.parent / "new", weights=b"trained anew").files

    def retrain():
        if adapter.is_dir() and (adapter.parent / "new").is_dir():
            shutil.rmtree(adapter)
            (adapter.parent / "new").rename(adapter)

    predictor.after_call = retrain
    out = run(adapter)
    found = read(out / "confidence_analysis.json", ConfidenceFile)
    assert not found.stored_in_adapter
    assert "已是另一个适配器" in found.notes[0]
    manifest = open_artifact(adapter).manifest
    assert (manifest.files, manifest.calibration) == (other, {})
    assert not (adapter / "README.md").exists()
    assert "模型卡没能写进适配器文件夹" in capsys.readouterr().err


def test_an_adapter_folder_that_is_broken_meanwhile_costs_nothing(adapter, predictor):
    predictor.after_call = lambda: (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    out = run(adapter)
    assert "文件缺失或被改过" in read(out / "confidence_analysis.json", ConfidenceFile).notes[0]
    assert (out / "report.html").is_file()
    assert not (adapter / "README.md").exists()


def test_a_quick_run_says_so_and_leaves_the_adapter_alone(adapter, predictor):
    before = {p.name: p.read_bytes() for p in adapter.iterdir()}
    out = run(adapter, "--quick", "--max_test_samples", "60", "--explain_errors", "12")
    assert {p.name: p.read_bytes() for p in adapter.iterdir()} == before
    metrics = read(out / "metrics.json", MetricsFile)
    assert metrics.provenance.quick
    assert metrics.official.n == 60  # what the user said beats what quick would take, even where it is the default
    assert len(read(out / "errors.json", ErrorsFile).errors) > 2
    assert read(out / "confidence_analysis.json", ConfidenceFile).n_fit == 120
    assert "快速评估" in (out / "report.html").read_text(encoding="utf-8")


def test_other_adapters_are_scored_on_the_same_rows(adapter, predictor, monkeypatch):
    other = adapter.parent / "other"
    write_adapter(other, open_artifact(adapter).manifest.data, weights=b"other weights")
    weak = KeywordPredictor(strength=0.0)
    fakes = {other: weak, adapter: predictor}
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: fakes[artifact.folder])
    out = run(adapter, "--other_adapters", str(other), "--baselines", "none")
    comparison = read(out / "baseline_comparison.json", ComparisonFile)
    assert [item.name for item in comparison.systems] == ["adapter_2", "adapter"]
    assert comparison.systems[0].official.n == comparison.systems[1].official.n
    (pair,) = comparison.pairs
    assert (pair.a, pair.b, pair.real) == ("adapter_2", "adapter", True)
    strange = adapter.parent / "strange"
    write_adapter(strange, task=SentimentTask(labels=("差", "中", "好")))
    with pytest.raises(ConfigError, match="另一种任务"):
        run(adapter, "--other_adapters", str(strange))


def test_aspects_and_lone_surrogates_go_through(tmp_path, monkeypatch):
    task = SentimentTask(template="{aspect}：{text}\n情感倾向：")
    rows = [
        {"text": f"第{i}回{(BAD, GOOD)[(i % 2) != (i % 7 == 0)][0]}\ud800{i}", "label": i % 2, "aspect": "房间\ud83d"}
        for i in range(300)
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    trained_on(tmp_path / "a", path, task)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor(task))
    out = run(tmp_path / "a", "--baselines", "majority")
    assert read(out / "errors.json", ErrorsFile).errors
    assert parquet.read_table(out / "predictions.parquet").num_rows == 30
    assert "aspect" in (out / "errors.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_a_bad_challenge_file_is_found_before_any_scoring(adapter, predictor, tmp_path):
    with pytest.raises(DataError, match="挑战集"):
        run(adapter, "--challenge", str(tmp_path / "none.csv"))
    assert predictor.calls == []


def test_the_audit_in_the_report_is_of_all_rows(adapter, predictor):
    out = run(adapter, "--max_test_samples", "30")
    cached = next((out / "cache").glob("audit-*.json"))
    found = Audit.model_validate_json(cached.read_bytes())
    assert {split.name: split.n for split in found.splits} == {"train": 160, "dev": 200, "test": 120}
    assert found.exact_cross_split["test_in_train"] == 1


def test_the_audit_is_made_again_where_another_tokenizer_counts(adapter, predictor, monkeypatch):
    def with_tokenizer(name, manifest):
        return lambda texts: [5000] * len(texts), "token 数由另一个分词器数出"

    out = run(adapter, "--quick")
    monkeypatch.setattr("zhsenti.audit.tokenizer.find_tokenizer", with_tokenizer)
    run(adapter, "--quick")
    audits = [Audit.model_validate_json(path.read_bytes()) for path in (out / "cache").glob("audit-*.json")]
    assert len(audits) == 2
    assert sorted(found.splits[0].tokens.max >= 5000 for found in audits) == [False, True]


KILLED = """
import os, signal, sys
from tests.fakes import KeywordPredictor
from zhsenti.evaluation import command
predictor = KeywordPredictor(strength=4.0)
predictor.after_call = lambda: len(predictor.calls) == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)
command.load_predictor = lambda config, artifact: predictor
command.main(["--model_path", sys.argv[1], "--output_dir", sys.argv[3], "--perturbation_samples", "20"])
"""


@pytest.mark.parametrize("call", [1, 5, 14])
def test_kill_9_and_again_gives_the_same_results(adapter, predictor, call):
    """Killed while scoring the test rows, the dev rows, the challenge set or the changed rows."""
    killed = adapter.parent / "killed"
    words = [sys.executable, "-c", KILLED, str(adapter), str(call), str(killed)]
    assert subprocess.run(words, env=ENV, capture_output=True, check=False).returncode == -signal.SIGKILL
    flags = ["--model_path", str(adapter), "--perturbation_samples", "20"]
    whole = run(adapter, "--perturbation_samples", "20")
    total, predictor.calls = len(predictor.calls), []
    assert command.main([*flags, "--output_dir", str(killed)]) == 0
    assert len(predictor.calls) <= total - call + 1  # at most the call that was killed is made again
    for name in ("metrics.json", "confidence_analysis.json", "robustness_result.json", "errors.json"):
        old, new = (json.loads((folder / name).read_bytes()) for folder in (whole, killed))
        old.pop("provenance", None), new.pop("provenance", None)
        assert old == new, name
