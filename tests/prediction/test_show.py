"""What ``zhsenti predict`` prints of a text and its explanation: for people, in colour or not, and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.fakes import KeywordPredictor
from zhsenti.prediction import command
from zhsenti.prediction.explain import MAX_WORDS, Explanation, Unit, word_units
from zhsenti.prediction.predictor import SentimentPredictor


class Fake(KeywordPredictor):
    def __init__(self, *_, **__):
        super().__init__()

    def predict(self, text, aspect=None):
        (result,) = self.predict_batch([text])
        return replace(result, truncated=len(text) > 100)


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr("zhsenti.artifact.open_artifact", lambda _: None)
    monkeypatch.setattr(SentimentPredictor, "from_folder", Fake)

    def call(*flags):
        assert command.main(list(flags)) == 0
        return capsys.readouterr().out

    return call


def test_json_holds_both_levels_and_reads_back(run):
    result = json.loads(run("--text", "住得满意，就是隔音差", "--explain", "--json"))
    explanation = Explanation.model_validate(result["explanation"])
    assert set(result["explanation"]) == {"clauses", "words"}
    assert [u.text for u in explanation.clauses] == ["住得满意，", "就是隔音差"]
    assert max(explanation.words, key=lambda u: u.effect).text == "满意"
    assert set(result["explanation"]["words"][0]) == set(Unit.model_fields)
    assert "explanation" not in json.loads(run("--text", "满意", "--json"))
    assert run("--demo", "--explain", "--json").count('"explanation"') == len(command.DEMO)


def test_a_pipe_gets_signs_and_no_colour(run, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    out = run("--text", "住得满意，不错，就是失望\x1b[31m[bold]", "--explain")
    assert "\x1b" not in out
    assert "[bold]" in out
    assert "对数几率" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["满意", "+2.00", "住得满意，", "+2.00"] in lines
    assert any(line[:2] == ["失望", "-2.00"] for line in lines)


@pytest.mark.parametrize(
    "text", ["住得满意，就是失望。" * 30, "满意" * 90, "满意" + "https://a.b/" * 20, "！！", "一般"]
)
def test_lines_fit_eighty_columns(run, text):
    out = run("--text", text, "--explain")
    assert max(map(cell_len, out.splitlines())) <= 80
    assert ("中段没有读" in out) == (len(text) > 100)
    assert ("只看了" in out) == (len(word_units(text)) > MAX_WORDS)
    assert ("判断几乎不变" in out) == ("满意" not in text)


def test_green_is_for_and_red_against(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = run("--text", "满意，不错，就是失望", "--explain")
    assert "\x1b[30;48;2;80;190;90m满意" in out
    assert "\x1b[30;48;2;240;110;95m失望" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "48;2" not in run("--text", "满意，不错，就是失望", "--explain")
