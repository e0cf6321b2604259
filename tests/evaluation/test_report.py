"""report.html, its pictures and the model card: one safe offline page, whatever the labels and texts are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.evaluation.whole import HOSTILE, read, run, trained_on
from tests.fakes import BAD, GOOD, KeywordPredictor
from tests.pages import Page
from zhsenti.artifact import open_artifact
from zhsenti.audit.findings import masked
from zhsenti.evaluation import command
from zhsenti.evaluation.compare import ComparisonFile
from zhsenti.evaluation.sections.comparison import MetricsFile
from zhsenti.evaluation.sections.confidence import ConfidenceFile
from zhsenti.evaluation.sections.errors import ExplainedError, coloured
from zhsenti.evaluation.sections.robustness import RobustnessFile
from zhsenti.evaluation.wording import ends
from zhsenti.prediction.explain import Unit
from zhsenti.task import SentimentTask


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


def hostile_run(folder: Path, monkeypatch, labels: tuple[str, str], flags: tuple[str, ...] = ()) -> Path:
    """A whole run on a task whose labels, slice values and texts try to break out of every format."""
    task = SentimentTask(labels=labels)
    lines = ["text,label,来源"]
    for i in range(300):
        word = (BAD, GOOD)[(i % 2) != (i % 11 == 0)][i % 4]
        cell = "![x](http://evil/a.png)<b>`" if i % 3 else "=1+1"
        lines.append(f'"第{i}间{word}\u202e|*_`{HOSTILE.replace(chr(34), chr(34) * 2)}{i}","{labels[i % 2]}","{cell}"')
    (folder / "d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    trained_on(folder / "a", folder / "d.csv", task)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor(task))
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


def test_no_baselines_no_clean_dev_rows_no_errors(tmp_path, monkeypatch):
    """All right, dev all in train, the adapter alone: every section still says what there is to say."""
    lines = [f"第{i}回{(BAD, GOOD)[i % 2][0]},{i % 2}" for i in range(80)]
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", lines), ("dev", lines[:20]), ("test", lines[40:])):
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    trained_on(tmp_path / "a", folder)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor())
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


def test_three_labels_have_a_report_without_the_challenge_set(tmp_path, monkeypatch):
    task = SentimentTask(labels=("差", "中", "好"))
    lines = [f"第{i}回{(BAD, ('一般般',), GOOD)[i % 3][0]}{'呀' * (i % 5)}{i},{task.labels[i % 3]}" for i in range(300)]
    (tmp_path / "three.csv").write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    trained_on(tmp_path / "a", tmp_path / "three.csv", task)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor(task))
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
    assert open_artifact(adapter).manifest


def test_without_a_chinese_font_pictures_are_english_and_the_page_chinese(adapter, predictor, monkeypatch, recwarn):
    monkeypatch.setattr("zhsenti.evaluation.report.pictures.chinese_font", lambda: None)
    said = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_ylabel", lambda self, label, **_: said.append(label))
    out = run(adapter, "--perturbation_samples", "5", "--challenge", "none", "--audit", "false", "--baselines", "none")
    assert {"真实", "true", "实际准确率", "accuracy"} <= set(said)
    assert "混淆矩阵" in (out / "report.html").read_text(encoding="utf-8")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
