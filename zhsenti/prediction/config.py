"""The flags and YAML keys of ``zhsenti predict``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.methods import DEFAULT_ADAPTER
from zhsenti.models.precision import PRECISION_HELP, SCORING_PRECISIONS


@dataclass
class InferenceConfig:
    """``scripts/inference.py``."""

    model_path: str = option(DEFAULT_ADAPTER, "训练得到的 lora_adapter 文件夹")
    text: str | None = option(None, "预测这一句", free=True)
    interactive: bool = option(False, "交互模式，一行一句；quit、exit 或 Ctrl-D 退出")
    demo: bool = option(False, "预测几句内置例句")
    json: bool = option(False, "每个结果输出一行 JSON")
    explain: bool = option(False, "逐词、逐小句说明判断的依据（每条文本多算几十次，较慢）")
    input: str | None = option(
        None, "预测每一行：文件（.csv、.tsv、.jsonl、.json、.parquet、.xlsx）、文件夹、通配符，- 为标准输入"
    )
    input_format: str = option(
        "auto", "标准输入的格式（auto 按第一行认）", choices=("auto", "jsonl", "csv", "tsv", "text")
    )
    output: str | None = option(
        None, "--input 的结果：.csv、.tsv、.jsonl、.parquet 或 .xlsx（默认在标准输出上每行一个 JSON）"
    )
    min_confidence: float | None = option(None, "置信度低于它的行（和出错的行）另存一份给人复核", low=0, high=1)
    review_output: str | None = option(None, "复核文件（默认在 --output 旁边，名字加 .review）")
    engine: str = option("local", "在本机算，还是用 Ray（集群；要另装 zhsenti[ray]）", choices=("local", "ray"))
    ray_address: str | None = option(None, "Ray 集群的地址，如 auto（默认在本机起一个）")
    num_actors: int = option(0, "Ray 上几个进程一起算，0 为按显卡数（没有显卡时每台机器一个）", low=0, high=10_000)
    text_column: str | None = option(None, "--input 的文本列名（默认按常见列名查找）")
    aspect_column: str | None = option(None, "--input 的方面列名（仅当任务模板含 {aspect}）")
    aspect: str | None = option(None, "方面（仅当任务模板含 {aspect}）")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    merge: bool = option(False, "先把 LoRA 并入基座再预测")
    precision: str = option("auto", PRECISION_HELP, choices=SCORING_PRECISIONS)
