"""The flags and YAML keys of ``zhsenti audit``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.data.registry import DATASETS

FINDINGS, RESULT, PAGE = "findings.csv", "audit.json", "audit.html"  # what an audit writes


@dataclass
class AuditConfig:
    """``zhsenti audit``."""

    files: list[str] = option(
        [],
        f"数据文件（train、dev、test 按文件名认），或一个文件夹，或数据集的名字：{'、'.join(DATASETS)}",
        group="数据",
        metavar="文件",
    )
    text_column: str | None = option(None, "文本列名（默认按常见列名查找）", metavar="列名")
    label_column: str | None = option(None, "标签列名（默认按常见列名查找；没有就不审计标签）", metavar="列名")
    aspect_column: str | None = option(None, "方面列名（仅当模板含 {aspect}；默认按常见列名查找）", metavar="列名")

    task: str | None = option(
        None, "含 task 一节的 YAML 文件（默认与适配器相同，否则负面、正面）", group="任务与模型", metavar="YAML"
    )
    max_length: int | None = option(None, "提示最长的 token 数（默认按任务，即 256）", low=16)
    model_path: str | None = option(None, "适配器文件夹：用它的任务，并让它复核最可疑的行", metavar="文件夹")
    adapter_rows: int = option(500, "适配器最多复核多少行", low=1)
    model_name: str | None = option(None, "用哪个模型的分词器数 token（默认用本地已有的；从不下载）", metavar="模型")

    output_dir: str = option("audit", f"结果文件夹：{FINDINGS}、{RESULT}、{PAGE}", group="结果", metavar="文件夹")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")
    seed: int = option(42, "随机种子（近似文本的散列、交叉验证的划分）", low=0, high=2**32 - 1)
