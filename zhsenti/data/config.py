"""Which rows a command reads, and which of their columns."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.data.registry import DATASETS


@dataclass
class DataConfig:
    """Which rows, and which of their columns."""

    dataset: str = option("auto", f"auto | {' | '.join(DATASETS)} | 文件或文件夹的路径", group="数据", metavar="名称")
    text_column: str | None = option(None, "文本列名（默认按常见列名查找）", metavar="列名")
    label_column: str | None = option(None, "标签列名（默认按常见列名查找）", metavar="列名")
    aspect_column: str | None = option(None, "方面列名（仅当模板含 {aspect}；默认按常见列名查找）", metavar="列名")
    on_error: str = option("fail", "数据文件里用不了的行：fail 列出并停下，skip 跳过并报告", choices=("fail", "skip"))
    duplicates: str = option("keep", "训练集中重复的文本：keep 保留，drop 只留第一条", choices=("keep", "drop"))
    conflicts: str = option("keep", "训练集中同文异标的文本：keep 保留，drop 都去掉", choices=("keep", "drop"))
    seed: int = option(42, "随机种子（划分、抽样、初始化、批次顺序）", low=0, high=2**32 - 1)
