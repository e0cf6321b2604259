"""A section and a baseline from outside the package, each by one file and one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.whole import read, run
from zhsenti.evaluation.baselines import BASELINES, parse_baselines
from zhsenti.evaluation.compare import ComparisonFile
from zhsenti.evaluation.sections import SECTIONS
from zhsenti.evaluation.sections.base import Section
from zhsenti.evaluation.systems import Context, System

FEW = ("--perturbation_samples", "5", "--explain_errors", "2", "--challenge", "none", "--audit", "false")


def test_a_section_from_outside_is_in_every_file(adapter, predictor, monkeypatch, capsys):
    monkeypatch.setitem(SECTIONS, "lengths", "tests.evaluation.toy.section:LengthsSection")
    out = run(adapter, "--baselines", "none", *FEW)
    written = json.loads((out / "lengths.json").read_text(encoding="utf-8"))
    assert written["n"] == 120

    page = (out / "report.html").read_text(encoding="utf-8")
    sentence = f"最长的文本有 {written['longest']} 字。"
    weak = page[page.index("<h3>弱点</h3>") :]
    assert weak.index(sentence) == weak.index("<li>") + len("<li>")  # its rank makes it the worst
    assert f"120 条，最长 {written['longest']} &lt;字&gt;" in page  # its template, escaped as all are
    assert page.index('id="audit"') < page.index('id="lengths"') < page.index('id="provenance"')
    part = page[page.index('id="lengths"') : page.index('id="provenance"')]
    assert part.count("<svg ") == 1
    assert "最长的文本</span>" in page  # the first screen
    assert (out / "plots" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    for card in (out / "model_card.md", adapter / "README.md"):
        assert f"最长的文本：{written['longest']} 字。" in card.read_text(encoding="utf-8")

    said = capsys.readouterr()
    assert "[5/6] 文本有多长" in said.err
    assert sentence in said.out
    assert "lengths.json" in said.out.splitlines()[-2]


def test_scores_alone_leave_the_section_out(adapter, predictor, monkeypatch):
    monkeypatch.setitem(SECTIONS, "lengths", "tests.evaluation.toy.section:LengthsSection")
    out = run(adapter, "--baselines", "none", "--report", "false")
    assert [path.name for path in out.iterdir() if path.is_file()] == ["metrics.json"]


def test_a_baseline_from_outside_is_compared(adapter, predictor, monkeypatch, capsys):
    def optimist(context: Context) -> System:
        def score(texts, aspects=None, *, progress=None):
            return np.log(np.tile([0.1, 0.9], (len(texts), 1)))

        return System("optimist", "总说好", "trivial", identity={"system": "optimist"}, prepare=lambda: (score, []))

    monkeypatch.setitem(BASELINES, "optimist", optimist)
    assert parse_baselines("optimist,majority") == ["majority", "optimist"]
    out = run(adapter, "--baselines", "optimist", "--report", "false")
    first, adapter_scores = read(out / "baseline_comparison.json", ComparisonFile).systems
    assert first.official.accuracy == pytest.approx(0.5, abs=0.02)
    assert adapter_scores.official.accuracy > first.official.accuracy
    assert "比 总说好 高" in capsys.readouterr().out


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_keeps_the_contract(name):
    kind = SECTIONS.load(name)
    assert issubclass(kind, Section)
    assert not kind.__abstractmethods__
    assert kind.template.endswith(".html.j2")
    assert kind.card_template == "" or kind.card_template.endswith(".md.j2")
