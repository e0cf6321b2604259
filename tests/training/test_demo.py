"""``make demo`` types what a user would type, and shows it first."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path

import pytest

from zhsenti.core.flags import parse
from zhsenti.evaluation.config import EvalConfig
from zhsenti.prediction.config import PredictConfig
from zhsenti.training.config import TrainConfig

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"
CONFIGS = {"train": TrainConfig, "evaluate": EvalConfig, "predict": PredictConfig}


@pytest.fixture
def demo(monkeypatch):
    """The script's main, and the command lines that it runs; a command fails when it is named in ``failing``."""
    ran: list[list[str]] = []
    failing: set[str] = set()

    def command(words: list[str]) -> int:
        ran.append(words)
        return 3 if words[0] in failing else 0

    monkeypatch.setattr("zhsenti.cli.main", command)
    return runpy.run_path(str(DEMO))["main"], ran, failing


def test_every_command_is_shown_and_right(demo, capsys):
    main, ran, _ = demo
    assert main(["--num_epochs", "2"]) == 0
    shown = [line.removeprefix("$ zhsenti ") for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert [shlex.split(line) for line in shown] == ran
    configs = [parse(CONFIGS[name], words, "")[0] for name, *words in ran]
    assert [type(config) for config in configs] == list(CONFIGS.values())
    train, evaluate, predict = configs
    assert train.num_epochs == 2
    assert evaluate.quick
    assert predict.demo
    assert evaluate.model_path == predict.model_path == f"{train.folder}/lora_adapter"


def test_it_stops_where_a_command_fails(demo):
    main, ran, failing = demo
    failing.add("evaluate")
    assert main([]) == 3
    assert [name for name, *_ in ran] == ["train", "evaluate"]


def test_its_help_runs_nothing(demo, capsys):
    main, ran, _ = demo
    assert main(["--help"]) == 0
    assert "用法" in capsys.readouterr().out
    assert not ran
