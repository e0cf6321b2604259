"""The ``zhsenti`` command: one table from subcommand to function; the work is done where the function lives."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from zhsenti import __version__
from zhsenti.core.errors import ConfigError, exit_on_error

COMMANDS = {
    "train": ("zhsenti.training.command:main", "微调：标签打分或分类头，LoRA 或 QLoRA；断了能接着跑"),
    "doctor": ("zhsenti.doctor.command:main", "检查这台机器：环境、显卡、内存、网络、缓存，以及怎么办"),
    "audit": ("zhsenti.audit.command:main", "检查数据：泄漏、重复、错标、捷径（训练之前）"),
    "evaluate": ("zhsenti.evaluation.command:main", "评估适配器，与基线比较，写成报告"),
    "predict": ("zhsenti.prediction.command:main", "预测一句，或文件里的每一行；也能在集群上"),
    "serve": ("zhsenti.serving.command:main", "HTTP 服务：API 和网页"),
    "export": ("zhsenti.export.command:main", "导出：合并的模型、GGUF、ONNX、OpenVINO，并核对结果"),
}


def main(argv: list[str] | None = None, defaults: Mapping[str, Any] | None = None) -> int:
    """Run the subcommand named by the first word.

    Args:
        argv: The subcommand and its words; None for those of the process.
        defaults: Handed to the subcommand's function where there are any: see ``run``.

    Raises:
        ConfigError: There is none of this name.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"zhsenti {__version__}")
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.5)
        raise ConfigError(
            f"没有这个命令：{words[0]}",
            expected="、".join(COMMANDS),
            todo=(f"是否指 {near[0]}？" if near else "") + "zhsenti --help 列出所有命令。",
        )
    module, name = COMMANDS[words[0]][0].split(":")
    function = getattr(importlib.import_module(module), name)
    return (function(words[1:], defaults) if defaults else function(words[1:])) or 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "用法：zhsenti 命令 [参数…]",
            "",
            *lines,
            "",
            "zhsenti 命令 --help 列出一个命令的参数；zhsenti --version 显示版本。",
        ]
    )


def _settle_gpu_memory() -> None:
    """Let torch grow blocks of GPU memory, where the user has not said how it is handed out.

    Passes differ in length, and blocks that cannot grow are too short for the next one: memory is free then, in pieces
    that are of no use. Read once, when torch starts. torch 2.9 and later read this name; the other two are older ones.
    """
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    if sys.platform == "linux" and not any(name in os.environ for name in names):
        os.environ[names[0]] = "expandable_segments:True"


def _tell_nobody() -> None:
    """Have the libraries send no statistics of use, where the user has not said that they may."""
    for name, value in (("HF_HUB_DISABLE_TELEMETRY", "1"), ("DO_NOT_TRACK", "1"), ("RAY_USAGE_STATS_ENABLED", "0")):
        os.environ.setdefault(name, value)


def run(*before: str, **defaults: Any) -> None:
    """The console script, and its aliases.

    Args:
        before: Words that an alias puts in front of what was typed.
        defaults: Settings of an alias that hold where neither the user nor a YAML says otherwise.
    """
    _settle_gpu_memory()
    _tell_nobody()
    sys.exit(exit_on_error(partial(main, defaults=defaults), [*before, *sys.argv[1:]]))
