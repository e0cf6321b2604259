"""The flags and YAML keys of ``zhsenti predict``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option, typed
from zhsenti.methods import DEFAULT_ADAPTER
from zhsenti.models.precision import PRECISION_HELP, SCORING_PRECISIONS

RAY = ("ray_address", "num_actors")  # read where the engine is ray


@dataclass
class PredictConfig:
    """One text, a dialogue, the demo sentences, or the rows of a file."""

    text: str | None = option(None, "预测这一句", group="一条文本", metavar="评论", free=True)
    interactive: bool = option(False, "对话：一行一句；quit、exit 或 Ctrl-D 退出")
    demo: bool = option(False, "预测几句内置例句")
    explain: bool = option(False, "逐词、逐小句说明判断的依据，每条文本多算几十次")
    aspect: str | None = option(None, "评的是哪个方面（仅当任务模板含 {aspect}）", metavar="方面")
    json: bool = option(False, "每个结果输出一行 JSON")

    input: str | None = option(
        None,
        "预测每一行：文件（.csv、.tsv、.jsonl、.json、.parquet、.xlsx、.xls）、文件夹或加引号的通配符；标准输入写 -",
        group="文件",
        metavar="路径",
    )
    text_column: str | None = option(None, "文本列（默认按常见列名查找）", metavar="列名")
    aspect_column: str | None = option(None, "方面列（仅当任务模板含 {aspect}）", metavar="列名")
    input_format: str = option(
        "auto", "标准输入的格式；auto 按第一行认", choices=("auto", "jsonl", "csv", "tsv", "text"), metavar="格式"
    )

    output: str | None = option(
        None,
        "写到 .csv、.tsv、.jsonl、.parquet 或 .xlsx（默认在标准输出上每行一个 JSON）；断了，同一条命令接着算",
        group="文件的结果",
        metavar="文件",
    )
    min_confidence: float | None = option(
        None, "置信度（0 到 1）低于它的行和出错的行，另存一份给人复核", metavar="阈值", low=0, high=1
    )
    review_output: str | None = option(None, "复核的那份（默认在 --output 旁边，名字加 .review）", metavar="文件")

    model_path: str = option(DEFAULT_ADAPTER, "训练得到的 lora_adapter 文件夹", group="模型", metavar="文件夹")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）", metavar="名称或文件夹")
    precision: str = option("auto", PRECISION_HELP, choices=SCORING_PRECISIONS)
    merge: bool = option(False, "先把 LoRA 并入基座再预测")

    engine: str = option(
        "local", "在本机算，还是用 Ray（集群；要另装 zhsenti[ray]）", group="集群", choices=("local", "ray")
    )
    ray_address: str | None = option(None, "Ray 集群的地址，如 auto（默认在本机起一个）", metavar="地址")
    num_actors: int = option(
        0, "Ray 上几个进程一起算；0 为每块显卡一个，没有显卡时每台机器一个", low=0, high=10_000, metavar="个数"
    )

    def command(self, *names: str) -> str:
        """A further command with the same model, and with those of the flags ``names`` that were given."""
        return "zhsenti predict" + typed(self, "model_path", "model_name", "precision", "merge", *names)
