"""Standard input of any kind, answered as it comes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from tests.fakes import KeywordPredictor
from tests.paths import ENV, ROOT
from zhsenti.core.errors import DataError
from zhsenti.prediction.batch import table
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask


def piped(monkeypatch, content: str, **flags) -> str:
    """Standard output of a job whose standard input is ``content``."""
    monkeypatch.setattr(table, "standard_input", lambda: io.BufferedReader(io.BytesIO(content.encode())))
    with redirect_stdout(io.StringIO()) as out:
        predict_file(PredictConfig(input="-", **flags), SentimentTask(), KeywordPredictor)
    return out.getvalue()


PIPED = """
import sys
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch.job import predict_file
predict_file(PredictConfig(input="-"), SentimentTask(), KeywordPredictor)
"""


def _pipe():
    return subprocess.Popen([sys.executable, "-c", PIPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV)


PIPES = [
    "很好\n很差\n",
    '{"text": "很好"}\n{"text": "很差"}\n',
    "id,text\n1,很好\n2,很差\n",
    "text\tid\n很好\t1\n很差\t2\n",
    "\ufeff很好\r\n很差",
]


@pytest.mark.parametrize("content", PIPES)
def test_a_pipe_of_any_kind(content):
    said, _ = _pipe().communicate(content.encode(), timeout=60)
    assert [json.loads(line)["label"] for line in said.decode().splitlines()] == ["正面", "负面"]


def test_a_pipe_is_answered_before_it_is_closed():
    with _pipe() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for text, label in (("很好", "正面"), ("很差", "负面")):
            child.stdin.write(f"{text}\n".encode())
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["label"] == label
        child.stdin.close()
        assert child.wait(30) == 0


def test_a_piped_row_keeps_its_own_label(monkeypatch):
    said = piped(monkeypatch, '{"text": "很好"}\n{"text": "很差", "label": "金标"}\n')
    first, second = (json.loads(line) for line in said.splitlines())
    assert first["label"] == "正面"
    assert (second["label"], second["predicted_label"]) == ("金标", "负面")


def test_a_pipe_s_later_keys_are_counted_where_a_table_has_no_place_for_them(monkeypatch, tmp_path, capsys):
    rows = '{"text": "很好"}\n{"text": "很差", "id": 7}\n'
    piped(monkeypatch, rows, output=str(tmp_path / "o.csv"))
    assert "id（1 行）" in capsys.readouterr().err
    piped(monkeypatch, rows, output=str(tmp_path / "o.jsonl"))
    assert "id（" not in capsys.readouterr().err
    assert json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()[1])["id"] == 7


def test_a_pipe_may_begin_with_a_broken_line(monkeypatch):
    said = piped(monkeypatch, '{bad\n{"text": "很差"}\n')
    assert [json.loads(line)["label"] for line in said.splitlines()] == [None, "负面"]
    with pytest.raises(DataError, match="不是 JSON"):
        piped(monkeypatch, "{bad\n{bad\n")


FAILING = """
import sys
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import PredictConfig
from zhsenti.core.errors import ModelError, exit_on_error
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch.job import predict_file
class Failing(KeywordPredictor):
    def predict_batch(self, texts, aspects=None, *, progress=None):
        raise ModelError("坏了")
sys.exit(exit_on_error(lambda _: predict_file(PredictConfig(input="-"), SentimentTask(), Failing), []))
"""


def test_an_early_end_does_not_wait_for_the_pipe_s_other_end():
    child = subprocess.Popen(
        [sys.executable, "-c", FAILING], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write("很好\n")
        child.stdin.flush()  # and it stays open
        assert child.wait(60) == 2
        said = child.stderr.read()
    assert "错误：坏了" in said
    assert "Fatal" not in said
