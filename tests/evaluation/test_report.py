"""The whole evaluation on a keyword predictor: every file, the page, the card, the cache, what a quick run leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes import BAD, GOOD, KeywordPredictor, write_adapter
from pyarrow import parquet

from zhsenti.artifact import load_manifest, store_calibration
from zhsenti.config import DataConfig
from zhsenti.data.audit.findings import Audit, masked
from zhsenti.data.sources import load_dataset
from zhsenti.errors import ConfigError, DataError
from zhsenti.evaluation import command
from zhsenti.evaluation.report import coloured, ends
from zhsenti.evaluation.schema import (
    ComparisonFile,
    ConfidenceFile,
    ErrorsFile,
    ExplainedError,
    MetricsFile,
    RobustnessFile,
    Unit,
    read,
)
from zhsenti.labels import SentimentTask

HOSTILE = '<script>alert(1)</script><img src="http://example.com/x.png" onerror=alert(2)>'


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Train, dev and test files: words decide most labels, some rows contradict them, one is hostile, one leaks."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def rows(name: str, n: int) -> list[str]:
        lines = []
        for i in range(n):
            label = i % 2
            wrong = rng.random() < 0.12
            word = (GOOD if label != wrong else BAD)[i % 4]
            lines.append(f"{name}第{i}次来，房间{word}，位置{'靠近地铁' * (i % 9)}{i},{label},{'甲乙'[i % 3 == 0]}")
        return lines

    train, dev, test = rows("一月", 160), rows("二月", 200), rows("三月", 120)
    test[7] = f'"=HYPERLINK(""http://x"") 服务失望 {HOSTILE.replace(chr(34), chr(34) * 2)}",1,甲'
    test[8] = train[8]
    for name, lines in (("train", train), ("dev", dev), ("test", test)):
        (folder / f"{name}.csv").write_text("text,label,店\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def adapter(data, tmp_path) -> Path:
    splits = load_dataset(DataConfig(dataset=str(data)), SentimentTask())
    folder = tmp_path / "lora_adapter"
    write_adapter(folder, {"name": splits.name, "sha256": splits.sha256, "dataset": str(data), "seed": 42})
    return folder


@pytest.fixture
def predictor(monkeypatch) -> KeywordPredictor:
    fake = KeywordPredictor(strength=4.0)
    monkeypatch.setattr(command, "load_predictor", lambda config, path: fake)
    monkeypatch.setattr(command, "check_base", lambda manifest, config: None)
    return fake


def run(adapter: Path, *flags: str) -> Path:
    output = adapter.parent / "out"
    assert command.main(["--model_path", str(adapter), "--output_dir", str(output), *flags]) == 0
    return output


class Page(HTMLParser):
    """Tags and their attributes, the text, and whether every tag was closed."""

    VOID = ("meta", "br", "path", "use", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_every_file_is_there_typed_and_agrees(adapter, data, predictor):
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


def test_the_page_is_one_safe_offline_file(adapter, predictor):
    out = run(adapter, "--perturbation_samples", "5")
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert HOSTILE in page.text  # shown as text, so escaped
    assert not any(name.startswith("on") for name, _ in page.attributes)
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("#") for value in links)
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for part in (
        "结论",
        "弱点",
        "哪些差别是真的",
        "可靠性图",
        "挑战集",
        "注入指令",
        "错在哪里",
        "数据审计",
        "来源与复现",
    ):
        assert part in page.text, part
    assert page.text.index("弱点") < page.text.index("与其它系统比较")  # on the first screen
    cell = next(
        line for line in (out / "errors.csv").read_text(encoding="utf-8-sig").splitlines() if "HYPERLINK" in line
    )
    assert "'=HYPERLINK" in cell


def test_numbers_of_people_do_not_go_into_pages():
    text = "电话13341772746，价格1580元，订单9876543"
    assert masked(text) == "电话133••••••••，价格1580元，订单987••••"
    assert ends(text) == masked(text)
    unit = Unit(start=2, end=13, text="13341772746", effect=1.0)
    error = ExplainedError(
        row=1, text=text, label="差", predicted="好", confidence=0.9, leak_free=True, clauses=[], words=[unit]
    )
    assert "".join(piece for piece, _ in coloured(error)) == masked(text)


def test_a_second_run_computes_nothing(adapter, predictor, monkeypatch):
    out = run(adapter, "--perturbation_samples", "20")
    before = (out / "robustness_result.json").read_bytes()
    predictor.calls.clear()
    monkeypatch.setattr("zhsenti.evaluation.audit.audit_splits", lambda *a, **k: pytest.fail("audited again"))
    run(adapter, "--perturbation_samples", "20")
    assert predictor.calls == []
    old, new = json.loads(before), json.loads((out / "robustness_result.json").read_bytes())
    del old["provenance"], new["provenance"]
    assert old == new


def test_the_temperature_goes_into_the_adapter(adapter, predictor):
    out = run(adapter)
    found = read(out / "confidence_analysis.json", ConfidenceFile)
    manifest = load_manifest(adapter)
    assert found.stored_in_adapter
    assert manifest.temperature == found.temperature
    assert manifest.calibration["n"] == 200


def test_an_older_temperature_that_stays_is_said(adapter, predictor):
    store_calibration(adapter, {"temperature": 3.0})
    out = run(adapter, "--quick")
    assert any("温度 3.00，预测仍用它" in note for note in read(out / "confidence_analysis.json", ConfidenceFile).notes)


@pytest.mark.parametrize("flags", [["--quick"], ["--precision", "bf16"], ["--dataset", "other"]])
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
    assert load_manifest(adapter).calibration == {}
    assert "没有存进适配器" in (out / "report.html").read_text(encoding="utf-8")
    assert (adapter / "README.md").exists() == (flags[0] == "--precision")


def test_an_adapter_folder_that_cannot_be_written_is_said_and_costs_nothing(adapter, predictor, monkeypatch):
    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("zhsenti.evaluation.stages.store_calibration", refuse)
    monkeypatch.setattr("zhsenti.evaluation.card.write_text", refuse)
    monkeypatch.setattr("zhsenti.evaluation.report.write_card", lambda path, *rest: path.write_text("卡"))
    out = run(adapter)
    assert "没能存进" in read(out / "confidence_analysis.json", ConfidenceFile).notes[0]
    assert (out / "report.html").is_file()


def test_a_quick_run_says_so_and_leaves_the_adapter_alone(adapter, predictor, capsys):
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
    write_adapter(other, load_manifest(adapter).data, weights=b"other weights")
    weak = KeywordPredictor(strength=0.0)
    monkeypatch.setattr(command, "load_predictor", lambda config, path: weak if path == str(other) else predictor)
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


def hostile_run(folder: Path, monkeypatch, labels: tuple[str, str], flags: tuple[str, ...] = ()) -> Path:
    """A whole run on a task whose labels, slice values and texts try to break out of every format."""
    task = SentimentTask(labels=labels)
    lines = ["text,label,来源"]
    for i in range(300):
        word = (BAD, GOOD)[(i % 2) != (i % 11 == 0)][i % 4]
        cell = "![x](http://evil/a.png)<b>`" if i % 3 else "=1+1"
        lines.append(f'"第{i}间{word}\u202e|*_`{HOSTILE.replace(chr(34), chr(34) * 2)}{i}","{labels[i % 2]}","{cell}"')
    (folder / "d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = load_dataset(DataConfig(dataset=str(folder / "d.csv")), task)
    trained = {"name": splits.name, "sha256": splits.sha256, "dataset": splits.name, "seed": 42}
    write_adapter(folder / "a", trained, task)
    monkeypatch.setattr(command, "load_predictor", lambda config, path: KeywordPredictor(task))
    return run(folder / "a", "--slice_columns", "来源", *flags)


def test_hostile_labels_and_cells_stay_text(tmp_path, monkeypatch):
    labels = ("$\\x$ <i>差</i>", "[好](http://evil)`|")
    out = hostile_run(tmp_path, monkeypatch, labels)
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not {"script", "img", "i", "b", "a"} & page.tags
    assert labels[0] in page.text
    card = (out / "model_card.md").read_text(encoding="utf-8").split("---", 2)[2]
    assert "](http" not in card.replace("\\](http", "").replace("\\]", "")
    assert "<i>" not in card.replace("\\<i", "")


def test_no_baselines_no_clean_dev_rows_no_errors(tmp_path, monkeypatch, capsys):
    """All right, dev all in train, the adapter alone: every section still says what there is to say."""
    lines = [f"第{i}回{(BAD, GOOD)[i % 2][0]},{i % 2}" for i in range(80)]
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", lines), ("dev", lines[:20]), ("test", lines[40:])):
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    splits = load_dataset(DataConfig(dataset=str(folder)), SentimentTask())
    write_adapter(tmp_path / "a", {"name": splits.name, "sha256": splits.sha256, "dataset": str(folder), "seed": 42})
    monkeypatch.setattr(command, "load_predictor", lambda config, path: KeywordPredictor())
    out = run(tmp_path / "a", "--baselines", "none", "--challenge", "none", "--audit", "false")
    assert read(out / "metrics.json", MetricsFile).leak_free is None
    assert read(out / "baseline_comparison.json", ComparisonFile).pairs == []
    found = read(out / "confidence_analysis.json", ConfidenceFile)
    assert (found.temperature, found.n_fit, found.target.outcome) == (1.0, 0, "unknown")
    text = (out / "report.html").read_text(encoding="utf-8")
    for part in (
        "没有可作公平比较的基线",
        "每条测试数据的文本都在训练集里",
        "没有拟合温度",
        "判错 0 条",
        "没有审计数据",
    ):
        assert part in text, part
    assert not (out / "audit_findings.csv").exists()


def test_aspects_and_lone_surrogates_go_through(tmp_path, monkeypatch):
    task = SentimentTask(template="{aspect}：{text}\n情感倾向：")
    rows = [
        {"text": f"第{i}回{(BAD, GOOD)[(i % 2) != (i % 7 == 0)][0]}\ud800{i}", "label": i % 2, "aspect": "房间\ud83d"}
        for i in range(300)
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = load_dataset(DataConfig(dataset=str(path)), task)
    write_adapter(tmp_path / "a", {"name": str(path), "sha256": splits.sha256, "dataset": str(path), "seed": 42}, task)
    monkeypatch.setattr(command, "load_predictor", lambda config, path: KeywordPredictor(task))
    out = run(tmp_path / "a", "--baselines", "majority")
    assert read(out / "errors.json", ErrorsFile).errors
    assert parquet.read_table(out / "predictions.parquet").num_rows == 30
    assert "aspect" in (out / "errors.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_three_labels_have_a_report_without_the_challenge_set(tmp_path, monkeypatch):
    task = SentimentTask(labels=("差", "中", "好"))
    lines = [f"第{i}回{(BAD, ('一般般',), GOOD)[i % 3][0]}{'呀' * (i % 5)}{i},{task.labels[i % 3]}" for i in range(300)]
    (tmp_path / "three.csv").write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    splits = load_dataset(DataConfig(dataset=str(tmp_path / "three.csv")), task)
    write_adapter(
        tmp_path / "a", {"name": splits.name, "sha256": splits.sha256, "dataset": splits.name, "seed": 42}, task
    )
    monkeypatch.setattr(command, "load_predictor", lambda config, path: KeywordPredictor(task))
    out = run(tmp_path / "a")
    robustness = read(out / "robustness_result.json", RobustnessFile)
    assert robustness.challenge is None
    assert "正负两类" in robustness.notes[0]
    assert not (out / "plots" / "roc.png").exists()
    assert Page((out / "report.html").read_text(encoding="utf-8")).open == []


def test_the_card_is_in_the_hubs_form_and_never_replaces_a_persons(adapter, predictor):
    from huggingface_hub import ModelCard

    out = run(adapter)
    card = ModelCard.load(adapter / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.language == "zh"
    accuracy = [item for item in card.data.eval_results if item.metric_type == "accuracy"]
    metrics = read(out / "metrics.json", MetricsFile)
    assert [item.metric_value for item in accuracy] == pytest.approx(
        [metrics.official.accuracy, metrics.leak_free.accuracy], abs=1e-4
    )
    for part in ("弱点", "无泄漏", "SentimentPredictor"):
        assert part in card.text
    (adapter / "README.md").write_text("我自己写的", encoding="utf-8")
    run(adapter)
    assert (adapter / "README.md").read_text(encoding="utf-8") == "我自己写的"
    assert load_manifest(adapter)


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


KILLED = """
import os, signal, sys
from fakes import KeywordPredictor
from zhsenti.evaluation import command
predictor = KeywordPredictor(strength=4.0)
predictor.after_call = lambda: len(predictor.calls) == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)
command.load_predictor = lambda config, path: predictor
command.main(["--model_path", sys.argv[1], "--output_dir", sys.argv[3], "--perturbation_samples", "20"])
"""


@pytest.mark.parametrize("call", [1, 5, 14])
def test_kill_9_and_again_gives_the_same_results(adapter, predictor, call):
    """Killed while scoring the test rows, the dev rows, the challenge set or the changed rows."""
    here = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(here), str(here.parent)))}
    killed = adapter.parent / "killed"
    words = [sys.executable, "-c", KILLED, str(adapter), str(call), str(killed)]
    assert subprocess.run(words, env=env, capture_output=True, check=False).returncode == -signal.SIGKILL
    flags = ["--model_path", str(adapter), "--perturbation_samples", "20"]
    whole = run(adapter, "--perturbation_samples", "20")
    total, predictor.calls = len(predictor.calls), []
    assert command.main([*flags, "--output_dir", str(killed)]) == 0
    assert len(predictor.calls) <= total - call + 1  # at most the call that was killed is made again
    for name in ("metrics.json", "confidence_analysis.json", "robustness_result.json", "errors.json"):
        old, new = (json.loads((folder / name).read_bytes()) for folder in (whole, killed))
        old.pop("provenance", None), new.pop("provenance", None)
        assert old == new, name


def test_without_a_chinese_font_pictures_are_english_and_the_page_chinese(adapter, predictor, monkeypatch, recwarn):
    monkeypatch.setattr("zhsenti.evaluation.plots.chinese_font", lambda: None)
    said = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_ylabel", lambda self, label, **_: said.append(label))
    out = run(adapter, "--perturbation_samples", "5", "--challenge", "none", "--audit", "false", "--baselines", "none")
    assert {"真实", "true", "实际准确率", "accuracy"} <= set(said)
    assert "混淆矩阵" in (out / "report.html").read_text(encoding="utf-8")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
