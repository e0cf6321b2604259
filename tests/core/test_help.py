"""The page of --help."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import pytest

from tests.core.flag_configs import AllTypes, FilesConfig, RowsConfig, RunConfig, page
from zhsenti.core.flags import option, parse
from zhsenti.core.text_width import cells


def headings(text: str) -> list[str]:
    return re.findall(r"^(\S+)：$", text, re.MULTILINE)


@pytest.fixture(autouse=True)
def called_from_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr(sys, "argv", ["scripts/run.py"])


def test_the_page_begins_with_the_usage_in_chinese(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/zhsenti", "train", "-h"])
    text = page(RunConfig, capsys)
    assert text.startswith("用法：zhsenti train [参数…]\n\n说明这个命令\n\n数据：\n")
    assert "usage" not in text
    assert page(FilesConfig, capsys, positional="files").startswith("用法：zhsenti train 文件… [参数…]\n")


def test_each_flag_stands_once_under_its_heading(capsys):
    text = page(RunConfig, capsys)
    assert headings(text) == ["数据", "模型", "训练", "其它"]
    shown = re.findall(r"^  --(\S+)", text, re.MULTILINE)
    assert sorted(shown) == sorted([*vars(RunConfig()), "config"])
    assert not [word for word in re.findall(r"--[a-z-]+", text) if "-" in word[2:]]
    for before, name, after in (("数据", "seed", "模型"), ("模型", "lora_r", "训练"), ("训练", "text", "其它")):
        assert text.index(f"\n{before}：") < text.index(f"\n  --{name} ") < text.index(f"\n{after}：")


def test_headings_are_inherited_and_kept(capsys):
    @dataclass
    class Child(RowsConfig):
        dataset: str = option("mine", "另一个默认值")  # the heading of the base's field
        more: int = option(1, "接着上一个字段")
        other: int = option(1, "另一组", group="别的")
        rows: int = option(1, "又是第一组", group="数据")

    text = page(Child, capsys)
    assert headings(text) == ["数据", "别的", "其它"]
    order = [text.index(part) for part in ("--dataset", "--seed", "--more", "--rows", "\n别的", "--other")]
    assert order == sorted(order)
    assert headings(page(FilesConfig, capsys)) == ["参数", "其它"]


def test_defaults_choices_and_units_are_shown(capsys):
    lines = page(RunConfig, capsys).splitlines()
    shown = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.startswith("  --"))
    assert shown["--seed 整数"] == "随机种子（划分、抽样；默认 42）"
    assert shown["--num_epochs 数值"] == "训练轮数（默认 3）"
    assert shown["--learning_rate 数值"] == "峰值学习率（默认 0.0001）"
    assert shown["--precision auto|bf16|fp32"] == "计算精度（默认 auto）"
    assert shown["--method plain"] == "方法（默认 plain）"
    assert shown["--early true|false"] == "不再变好就停（默认 是）"
    assert shown["--use_qlora [true|false]"] == "4 比特基座；默认只在内存放不下时用"
    assert shown["--max_length 整数"] == "最长 token 数（默认按任务）"
    assert shown["--run_name 文字"] == "运行名"
    assert shown["--slices 文字"] == "分组的列名，逗号分隔"
    assert shown["--task 路径"] == "任务：YAML 文件路径，或 --config 里的 task 一节"


def test_the_types_on_the_page(capsys):
    text = page(AllTypes, capsys)
    for line in (
        r"--switch +开关（默认 否）",
        r"--words 文字 +几个词（可写多次；默认 a、b）",
        r"--counts 整数 +几个数（可写多次）",
        r"--place 路径 +哪里（默认 x）",
        r"--kind a\|b +哪一种（默认 a）",
        r"--colour red\|blue +颜色（默认 red）",
        r"table: … +几个键（只能写在 YAML 里）",
        r"--wide x\|y +选几个（可写多次）",
    ):
        assert re.search(f"^  {line}$", text, re.MULTILINE), line
    assert re.search("^  文件… +数据文件，或一个文件夹$", page(FilesConfig, capsys, positional="files"), re.MULTILINE)


def test_the_page_ends_with_yaml_and_examples(capsys, configs):
    text = page(RowsConfig, capsys, configs=configs, examples=("zhsenti train --dataset 我的评论.csv",))
    last = text.split("\n其它：\n")[1]
    assert re.match(r"  -h, --help +显示这份说明\n  --config YAML +从 YAML 文件读参数", last)
    assert "命令行优先。自带的写名字即可：gpu、laptop\n" in last
    assert text.endswith("\n\n例子：\n  zhsenti train --dataset 我的评论.csv\n")
    assert "例子" not in page(RowsConfig, capsys)


@pytest.mark.parametrize("columns", [40, 60, 80, 110, 400])
@pytest.mark.parametrize("cls", [RunConfig, AllTypes, FilesConfig])
def test_the_page_fits_the_terminal(capsys, monkeypatch, cls, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for line in page(cls, capsys).splitlines():
        assert cells(line) <= min(columns, 110)


def test_choices_that_fill_a_line_go_into_the_text(capsys, monkeypatch):
    @dataclass
    class Config:
        kind: str = option("a" * 30, "哪一种", choices=[letter * 30 for letter in "abc"])

    assert f"--kind {'|'.join(letter * 30 for letter in 'abc')}\n" in page(Config, capsys)
    monkeypatch.setenv("COLUMNS", "80")
    text = page(Config, capsys)
    assert re.search("--kind 名称 +哪一种（a{30} \\|", text)
    assert all(letter * 30 in text for letter in "abc")


def test_help_wins_over_faults_and_over_a_missing_value(capsys):
    for words in (["--sede", "4", "-h"], ["--seed", "--help"], ["--seed=x", "-h"]):
        with pytest.raises(SystemExit):
            parse(RowsConfig, words, "")
        assert capsys.readouterr().out.startswith("用法：")
