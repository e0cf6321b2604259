"""``zhsenti predict`` on a tiny trained adapter: one text, a dialogue, the demo; mistakes; what it opens."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections import Counter

import pytest

from tests.paths import ROOT
from zhsenti import SentimentPredictor, artifact
from zhsenti.artifact import open_artifact
from zhsenti.core.errors import ConfigError, DataError
from zhsenti.models import adapter_check
from zhsenti.prediction import command
from zhsenti.prediction.config import PredictConfig
from zhsenti.prediction.dialogue import dialogue
from zhsenti.prediction.result import Prediction
from zhsenti.prediction.show import show


def test_command_prints_json_text_and_demo(adapter, capsys):
    assert command.main(["--model_path", str(adapter), "--text", "酒店很好", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["text"] == "酒店很好"
    assert set(result) == {"text", "label", "confidence", "scores", "tokens", "truncated"}
    assert command.main(["--model_path", str(adapter), "--demo"]) == 0
    assert capsys.readouterr().out.count("→") == len(command.DEMO)


def test_dialogue_takes_empty_lines_and_ends_on_quit_or_eof(adapter, capsys, monkeypatch):
    for typed in ("很好\n\n  \n很差\nquit\n不会读到\n", "很好\n很差\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert command.main(["--model_path", str(adapter), "--interactive", "--json"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [json.loads(line)["text"] for line in lines] == ["很好", "很差"]


def test_a_dialogue_goes_on_after_bytes_that_are_no_text(capsys, monkeypatch):
    typed = "很好\n".encode("gb18030") * 2 + "很差\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8", errors="strict"))
    answered = []
    dialogue(answered.append)
    assert len(answered) == 3
    assert answered[2] == "很差"
    assert capsys.readouterr().err.count("iconv") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_path", "/不存在/adapter", "--text", "好"], "没有这个适配器文件夹"),
        (["--text", ""], "--text 是空的"),
        (["--text", "\u200b\ufeff"], "--text 不能用：文本里只有看不见的字符"),
        ([], "没有说要预测什么"),
        (["--txt", "好"], "--text"),
    ],
)
def test_mistakes_give_one_message_and_exit_code_2(flags, message):
    done = subprocess.run(
        [sys.executable, "scripts/inference.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_json_of_a_text_that_no_file_can_hold(capsysbinary):
    result = Prediction("正面", 0.9, {"负面": 0.1, "正面": 0.9}, 3, False)
    show("很好\ud800", result, as_json=True)
    assert json.loads(capsysbinary.readouterr().out.decode("utf-8"))["text"] == "很好?"


INVISIBLE = "\u200b\ufeff"


@pytest.mark.parametrize(("text", "fault"), [(INVISIBLE, "文本里只有看不见的字符"), ("好" * 1_000_001, "文本太长")])
def test_every_door_refuses_the_same_texts_with_the_same_words(text, fault, adapter, monkeypatch, capsys, tmp_path):
    with pytest.raises(DataError, match=fault):
        SentimentPredictor.from_folder(adapter).predict(text)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{text}\n很好\n"))
    assert command.main(["--model_path", str(adapter), "--interactive", "--json"]) == 0
    said = capsys.readouterr()
    assert fault in said.err
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == ["很好"]
    path = tmp_path / "a.csv"
    path.write_text(f"text\n{text}\n", encoding="utf-8")
    assert command.main(["--model_path", str(adapter), "--input", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["error"].startswith(fault)
    monkeypatch.setattr(SentimentPredictor, "from_folder", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=f"--text 不能用：{fault}"):
        command.main(["--model_path", "/nowhere", "--text", text])


def test_the_folder_is_opened_once(adapter, monkeypatch):
    seen = Counter()

    def counted(module, name):
        real = getattr(module, name)

        def count(path, *args):
            seen[name, path.name] += 1
            return real(path, *args)

        monkeypatch.setattr(module, name, count)

    counted(artifact, "file_sha256")
    counted(adapter_check, "read_header")
    assert command.main(["--model_path", str(adapter), "--text", "酒店很好"]) == 0
    assert seen["file_sha256", "adapter_model.safetensors"] == 1
    assert seen["read_header", "adapter_model.safetensors"] == 1


def test_the_loader_travels_to_workers_that_stand_elsewhere(adapter, monkeypatch):
    monkeypatch.chdir(adapter.parent)
    config = PredictConfig(model_path=adapter.name, precision="fp32")
    load = pickle.loads(pickle.dumps(command._Load(open_artifact(adapter.name), config)))  # noqa: S301
    monkeypatch.chdir(ROOT)
    assert load().predict("酒店很好").label in ("正面", "负面")


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        (["--text", "酒店很好"], "--text '酒店很好' --explain"),
        (["--text", "酒店很好", "--explain"], "--input 评论.csv --output 结果.csv"),
        (["--text", "酒店很好" * 20], "同一条命令加上 --explain"),
        (["--demo"], "--interactive"),
    ],
)
def test_the_last_line_is_what_to_type_next(flags, step, adapter, tiny_model, capsys):
    model = ["--model_path", str(adapter), "--model_name", str(tiny_model), "--precision", "fp32"]
    assert command.main([*model, *flags]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("下一步：")
    assert last.endswith(step)
    if "zhsenti predict" in last:
        assert f"zhsenti predict {' '.join(model)} --" in last


@pytest.mark.parametrize(
    "flag", ["--input_format=csv", "--ray_address=auto", "--num_actors=2", "--text_column=a", "--min_confidence=0"]
)
def test_flags_of_files_are_refused_without_one(flag):
    with pytest.raises(ConfigError, match=f"{flag.split('=')[0]} 只和 --input 一起用"):
        command.main(["--text", "好", flag])


@pytest.mark.parametrize("flag", ["--ray_address=auto", "--num_actors=2", "--input_format=csv"])
def test_flags_that_would_be_ignored_are_refused(flag):
    with pytest.raises(ConfigError, match="只和 --"):
        command.main(["--input", "a.csv", flag])
