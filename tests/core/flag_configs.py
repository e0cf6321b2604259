"""Dataclasses that the tests of flags and of their help page read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import option, parse
from zhsenti.core.registry import Registry

METHODS: Registry[Any] = Registry("方法", {"plain": "m:Plain"})


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class RowsConfig:
    dataset: str = option("auto", "数据：auto 或文件路径", group="数据")
    seed: int = option(42, "随机种子（划分、抽样）", low=0, high=2**32 - 1)


@dataclass
class RunConfig(RowsConfig):
    lora_r: int = option(8, "LoRA 秩", group="模型", low=1, high=4096)
    dropout: float = option(0.0, "丢弃的比例", low=0, high=0.9)
    use_qlora: bool | None = option(None, "4 比特基座；默认只在内存放不下时用")
    precision: str = option("auto", "计算精度", choices=("auto", "bf16", "fp32"))
    method: str = option("plain", "方法", choices=METHODS)
    task: str | dict[str, Any] | None = option(None, "任务：YAML 文件路径，或 --config 里的 task 一节", metavar="路径")
    num_epochs: float = option(3.0, "训练轮数", group="训练", above=0)
    learning_rate: float = option(1e-4, "峰值学习率", above=0)
    batch_size: int = option(8, "每批的条数", low=1)
    early: bool = option(True, "不再变好就停")
    max_length: int | None = option(None, "最长 token 数（默认按任务）", low=16)
    run_name: str | None = option(None, "运行名")
    slices: str = option("", "分组的列名，逗号分隔")
    text: str | None = option(None, "预测这一句", free=True)


@dataclass
class FilesConfig:
    files: list[str] = option([], "数据文件，或一个文件夹")
    output_dir: str = option("audit", "结果文件夹")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")
    seed: int = option(42, "随机种子", low=0)


@dataclass
class AllTypes:
    switch: bool = option(False, "开关")
    maybe: bool | None = option(None, "开关或不说")
    count: int = option(1, "几个")
    share: float = option(0.5, "占多少")
    name: str = option("a", "名字")
    words: list[str] = option(["a", "b"], "几个词")
    counts: list[int] = option([], "几个数")
    shares: list[float] = option([], "几个比例")
    place: Path = option(Path("x"), "哪里")
    places: list[Path] | None = option(None, "哪些地方")
    kind: Literal["a", "b"] = option("a", "哪一种")
    level: Literal[1, 2] = option(1, "第几级")
    colour: Colour = option(Colour.RED, "颜色")
    colours: list[Colour] = option([], "几种颜色")
    table: dict[str, Any] = option({}, "几个键")
    wide: list[str] = option([], "选几个", choices=("x", "y"))


def faults(cls: type, words: list[str], **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(cls, words, "", **more)
    return str(caught.value)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def page(cls: type, capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    with pytest.raises(SystemExit) as done:
        parse(cls, ["--help"], "说明这个命令", **more)
    assert not done.value.code
    return capsys.readouterr().out
