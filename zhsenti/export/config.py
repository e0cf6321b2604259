"""The flags and YAML keys of ``zhsenti export``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.data.registry import DATASETS
from zhsenti.export.formats import DEFAULT, DTYPES, FORMATS
from zhsenti.methods import DEFAULT_ADAPTER

EXAMPLES = (
    "zhsenti export",
    "zhsenti export --format gguf --dtype q8_0 --output export_gguf",
    "zhsenti export --format onnx --dataset reviews.csv",
)


@dataclass
class ExportConfig:
    """``zhsenti export``."""

    model_path: str = option(DEFAULT_ADAPTER, "训练得到的 lora_adapter 文件夹", group="导出什么", metavar="文件夹")
    format: str = option(DEFAULT, "导出成什么", choices=FORMATS)
    output: str | None = option(None, "导出到这个文件夹（默认在适配器旁边，名字是 export_格式）", metavar="文件夹")
    dtype: str = option(
        "auto",
        "权重的类型（默认：merged 与训练时相同，gguf、openvino 为 fp16，onnx 为 fp32；gguf 另有 q8_0）",
        choices=DTYPES,
    )
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）", metavar="名称或文件夹")
    dataset: str = option(
        "auto",
        f"拿来核对的真实评论：auto（训练时用的数据）| {' | '.join(DATASETS)} | 文件或文件夹",
        group="用什么核对",
        metavar="数据",
    )
    text_column: str | None = option(None, "--dataset 的文本列名（默认按常见列名查找）", metavar="列名")
    aspect_column: str | None = option(None, "--dataset 的方面列名（仅当任务模板含 {aspect}）", metavar="列名")
    samples: int = option(400, "核对多少条评论", low=50, high=100_000)
    seed: int = option(42, "抽哪些评论来核对", low=0, high=2**32 - 1)
