"""Dataclasses as flags and YAML keys: what is read, what is refused and in which words."""

from __future__ import annotations

import shlex
import sys

import pytest

from tests.core.flag_configs import AllTypes, FilesConfig, RowsConfig, RunConfig, faults, write
from zhsenti.core.flags import parse, typed

# ── precedence, spelling, sources ─────────────────────────────────────────────────────────────────────────────────


def test_flags_beat_yaml_beats_defaults_and_hyphens_work(tmp_path):
    path = write(tmp_path / "c.yaml", "lora-r: 4\nnum_epochs: 2\ntask: {labels: [差, 好]}\n")
    config, sources = parse(RunConfig, ["--config", path, "--lora-r", "32", "--use_qlora"], "")
    assert (config.lora_r, config.num_epochs, config.use_qlora, config.batch_size) == (32, 2.0, True, 8)
    assert config.task == {"labels": ["差", "好"]}
    assert sources == {"lora_r": "命令行", "num_epochs": path, "use_qlora": "命令行", "task": path}


def test_nothing_given_is_all_defaults_and_lists_are_not_shared():
    one, sources = parse(AllTypes, [], "")
    other, _ = parse(AllTypes, [], "")
    assert (one, sources) == (AllTypes(), {})
    one.words.append("c")
    assert other.words == AllTypes().words == ["a", "b"]


def test_words_of_the_process_are_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed=7"])
    assert parse(RowsConfig, None, "")[0].seed == 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], ""),
        (["--seed=42", "--method", "plain"], ""),
        (["--lora_r", "32", "--early", "no", "--use_qlora"], " --lora_r 32 --use_qlora true --early false"),
        (["--run_name", "我的 run", "--text=-a"], " --run_name '我的 run' --text=-a"),
        (["--text="], " --text ''"),
        (["--text", "it's"], """ --text 'it'"'"'s'"""),
    ],
)
def test_flags_that_were_given_can_be_typed_again(words, line):
    config, _ = parse(RunConfig, words, "")
    again = typed(config, "seed", "lora_r", "use_qlora", "method", "early", "run_name", "text")
    assert again == line
    assert parse(RunConfig, shlex.split(again), "")[0] == config


def test_the_last_of_two_wins_and_a_value_may_hold_an_equals_sign():
    config, _ = parse(RunConfig, ["--seed", "1", "--seed=2", "--run_name=a=b", "--use_qlora", "--use-qlora=no"], "")
    assert (config.seed, config.run_name, config.use_qlora) == (2, "a=b", False)


# ── words without a flag ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words", [["a", "b", "--json"], ["--json", "a", "b"], ["a", "--json", "--seed", "42", "b"], ["a", "--json=1", "b"]]
)
def test_positional_words_may_stand_anywhere(words):
    config, sources = parse(FilesConfig, words, "", positional="files")
    assert (config.files, config.json) == (["a", "b"], True)
    assert set(sources) - {"seed"} == {"files", "json"}


@pytest.mark.parametrize(
    ("words", "files", "json"),
    [
        (["--json", "false", "a"], ["a"], False),
        (["--json"], [], True),
        (["-", "-5", "- a"], ["-", "-5", "- a"], False),
        (["a", "--", "--json", "--", "-x"], ["a", "--json", "--", "-x"], False),
    ],
)
def test_positional_words_and_switches(words, files, json):
    config, _ = parse(FilesConfig, words, "", positional="files")
    assert (config.files, config.json) == (files, json)


def test_no_item_of_a_list_may_be_empty(tmp_path):
    """As where a variable of the shell has no value: as a path it would be the current folder."""
    assert "命令行 的 files：有一个是空的" in faults(FilesConfig, ["a", ""], positional="files")
    assert "命令行 的 files：有一个是空的" in faults(FilesConfig, ["--files", " "])
    assert "places：有一个是空的" in faults(AllTypes, ["--places", "a", "--places="])
    assert "files：有一个是空的" in faults(FilesConfig, ["--config", write(tmp_path / "c.yaml", "files: [a, '']")])


def test_a_flag_with_a_slip_is_no_file():
    assert "--jsom 是否指 --json？" in faults(FilesConfig, ["--jsom", "a"], positional="files")
    assert "不认识的参数：-x —json" in faults(FilesConfig, ["-x", "a", "—json"], positional="files")


def test_positional_words_from_yaml(tmp_path):
    path = write(tmp_path / "c.yaml", "files: [a.csv, b.csv]\nseed: 7\n")
    config, _ = parse(FilesConfig, ["--config", path], "", positional="files")
    assert (config.files, config.seed) == (["a.csv", "b.csv"], 7)
    config, _ = parse(FilesConfig, ["c.csv", "--config", path], "", positional="files")
    assert config.files == ["c.csv"]
