"""``zhsenti train`` as it is typed: any method, any directory, one process or several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.doomed import events
from zhsenti.cli import main
from zhsenti.core.errors import ConfigError
from zhsenti.methods import METHODS
from zhsenti.training import command as train_command
from zhsenti.training import run
from zhsenti.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("方法、基座与任务", "数据", "LoRA 与精度", "训练", "保存与续训", "多进程", "记录", "其它", "例子")
ALIASES = {"scripts/train_label_scoring.py": "label_scoring", "scripts/train_classifier.py": "classifier_head"}


@pytest.fixture
def asked(monkeypatch):
    """The configs that training was asked for; nothing is trained."""
    configs: list[TrainConfig] = []
    monkeypatch.setattr(run, "train", lambda config, sources: configs.append(config))
    return configs


def page(*words: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *words, "--help"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_the_help_page_is_grouped_and_offers_every_method_and_yaml():
    text = page("-m", "zhsenti", "train")
    assert text.startswith("用法：zhsenti train [参数…]")
    heads = [line.removesuffix("：") for line in text.splitlines() if line and not line.startswith((" ", "用法"))]
    assert [head for head in heads if head in GROUPS] == list(GROUPS)
    for word in (*METHODS, "laptop", "two_gpus_fsdp"):
        assert word in text, word
    last = text[text.index("记录：") :]
    assert "--wandb_project" in last
    assert "--run_name" in last


@pytest.mark.parametrize("script", ALIASES)
def test_an_alias_says_its_own_name(script):
    assert page(script).startswith(f"用法：python {script} [参数…]")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "zhsenti" / "configs").glob("*.yaml")))
def test_a_packaged_yaml_is_found_by_its_name_from_any_directory(asked, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_command, "launch", lambda count, words, folder: 0)
    assert main(["train", "--config", name]) == 0
    assert len(asked) == (0 if name == "two_gpus_fsdp" else 1)
    with pytest.raises(ConfigError, match="laptop"):
        main(["train", "--config", "labtop"])


def test_the_method_s_name_decides_the_folder(asked):
    for method in METHODS:
        main(["train", "--method", method])
        assert asked[-1].method == method
        assert asked[-1].folder == Path("experiments", method)
    main(["train", "--output_dir", "here"])
    assert asked[-1].folder == Path("here")


def test_several_processes_start_the_same_words(asked, monkeypatch):
    started = []
    monkeypatch.setattr(
        train_command, "launch", lambda count, words, folder: started.append((count, words, folder)) or 3
    )
    assert main(["train", "--method", "classifier_head", "--num_processes", "2"]) == 3
    ((count, words, folder),) = started
    assert (count, folder) == (2, Path("experiments/classifier_head"))
    assert words == ["-P", "-m", "zhsenti", "train", "--method", "classifier_head", "--num_processes", "2"]
    assert not asked


def test_the_end_names_the_next_commands(command, tmp_path, capsys):
    folder = tmp_path / "a b"
    assert main(["train", *command(folder)]) == 0
    *_, predict, evaluate = capsys.readouterr().err.splitlines()
    assert predict.startswith(f"下一步：zhsenti predict --model_path '{folder}/lora_adapter' --text ")
    assert evaluate.strip() == f"zhsenti evaluate --model_path '{folder}/lora_adapter'"
    assert events(folder, "summary")
