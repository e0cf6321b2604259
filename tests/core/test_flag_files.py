"""``--config``, and how a command was called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.flag_configs import RowsConfig, RunConfig, faults, page, write
from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import parse, program, read_yaml

# ── --config ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["laptop", "laptop.yaml", "./packaged/laptop.yaml"])
def test_a_packaged_yaml_is_found_by_its_name(configs, name):
    config, sources = parse(RowsConfig, ["--config", name], "", configs=configs)
    assert config.seed == 1
    assert sources == {"seed": name if "/" in name else "自带的 laptop.yaml"}


def test_a_fault_in_a_packaged_yaml_names_it(configs):
    assert "自带的 gpu.yaml 的 sede：没有这个参数，是否指 seed？" in faults(
        RowsConfig, ["--config=gpu"], configs=configs
    )


def test_a_file_of_the_user_is_meant_before_a_packaged_one(configs, tmp_path):
    (tmp_path / "laptop").mkdir()  # a folder cannot be meant
    assert parse(RowsConfig, ["--config", "laptop"], "", configs=configs)[0].seed == 1
    write(tmp_path / "laptop.yaml", "seed: 5\n")
    assert parse(RowsConfig, ["--config", "laptop.yaml"], "", configs=configs)[0].seed == 5


@pytest.mark.parametrize("name", ["labtop", "packaged/laptop", "no/laptop.yaml", "~/no.yaml"])
def test_a_config_that_does_not_exist_is_answered_with_the_packaged_names(configs, name):
    said = faults(RowsConfig, ["--config", name], configs=configs)
    assert f"读不了配置文件 {name}" in said
    assert "自带的：gpu、laptop，写名字即可。" in said


@pytest.mark.parametrize(("name", "said"), [("none.yaml", "读不了配置文件"), ("bad.yaml", "不是合法的 YAML")])
def test_a_config_that_cannot_be_read_is_one_fault_among_others(tmp_path, name, said):
    write(tmp_path / "bad.yaml", "a: [")
    lines = faults(RunConfig, ["--config", str(tmp_path / name), "--seed", "x", "--lora_x"]).splitlines()
    assert lines[0] == "参数有误"
    assert [line for line in lines if line.startswith("  - ")] == [
        "  - 不认识的参数：--lora_x",
        next(line for line in lines if said in line and line.startswith("  - ")),
        "  - 命令行 的 seed：'x' 不是整数",
    ]
    assert [line[2:5] for line in lines if line.startswith("  怎")] == ["怎么办"], "of all together: one"


def test_an_alias_has_defaults_below_the_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scripts/alias.py"])
    path = write(tmp_path / "c.yaml", "lora_r: 4\n")
    alias = {"lora_r": 2, "early": False, "seed": 7}
    config, sources = parse(RunConfig, ["--config", path, "--seed", "9"], "", defaults=alias)
    assert (config.lora_r, config.early, config.seed) == (4, False, 9)
    assert sources == {"lora_r": path, "early": "python scripts/alias.py", "seed": "命令行"}
    shown = page(RunConfig, capsys, defaults=alias)
    assert "LoRA 秩（默认 2）" in shown
    assert "随机种子（划分、抽样；默认 7）" in shown


def test_without_packaged_ones_a_config_is_a_path(configs):
    said = faults(RowsConfig, ["--config", "laptop"])
    assert "读不了配置文件 laptop" in said
    assert "自带" not in said


def test_a_config_under_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "c.yaml", "seed: 6\n")
    assert parse(RowsConfig, ["--config=~/c.yaml"], "")[0].seed == 6


LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "不是合法的 YAML"),
        (b"run_name: 2020-13-45\n", "不是合法的 YAML"),
        (b"seed: 1\n---\nseed: 2\n", "不是合法的 YAML"),
        (b"task: !!python/object/apply:os.system [touch owned]\n", "不是合法的 YAML"),
        (b"batch_size: " + b"9" * 5000, "不是合法的 YAML"),
        ("dataset: 好\n".encode("gbk"), "不是合法的 YAML"),
        (bytes(range(256)), "不是合法的 YAML"),
        (b"just a text\n", "最外层要是“键: 值”"),
        (b"? [a]\n: b\n", "不是合法的 YAML"),
        (b"- a\n", "最外层要是“键: 值”"),
        (LAUGHS.encode(), "第 2 行用了引用"),
        (b"task: &t {labels: *t}\n", "第 1 行用了引用"),
        (b"a: 1\ntask: " + b"[" * 20_000, "第 2 行嵌套超过 32 层"),
        (b"# x\n" * (1 << 18), "太大"),
    ],
)
def test_yaml_that_is_refused(tmp_path, content, said):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_yaml(path)
    assert "c.yaml" in str(caught.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), lambda path: None])
def test_what_is_no_file_is_no_yaml(tmp_path, make):
    make(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="读不了配置文件"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", "a\0.yaml", "长" * 200, "a/" * 3000, "\udcff.yaml", ""])
def test_paths_that_no_yaml_can_have(path):
    with pytest.raises(ConfigError, match="读不了配置文件"):
        read_yaml(path)
    assert "配置文件" in (said := faults(RowsConfig, [f"--config={path}"])) or "config：" in said


def test_an_empty_yaml_says_nothing(tmp_path):
    assert read_yaml(write(tmp_path / "c.yaml", "# nothing\n")) == {}


# ── how it was called, where things are ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["/usr/bin/zhsenti", "audit", "x"], "zhsenti audit"),
        (["/usr/bin/zhsenti"], "zhsenti"),
        (["/usr/bin/zhsenti", "--help"], "zhsenti"),
        (["zhsenti.exe", "train", "-h"], "zhsenti train"),
        (["/lib/zhsenti/__main__.py", "train"], "zhsenti train"),
        (["scripts/inference.py", "--text", "好"], "python scripts/inference.py"),
        (["/my files/inference.py"], "python '/my files/inference.py'"),
        (["/usr/bin/serve", "run"], "serve"),
    ],
)
def test_the_program_is_called_as_it_can_be_typed(monkeypatch, argv, called):
    monkeypatch.setattr(sys, "argv", argv)
    assert program() == called


def test_reading_flags_is_cheap():
    code = (
        "import sys; from zhsenti.core.flags import parse; import zhsenti.core.paths\n"
        "assert not {'yaml', 'torch', 'numpy', 'rich', 'argparse', 'importlib.resources'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
