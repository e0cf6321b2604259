"""The flags and YAML keys of ``zhsenti evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zhsenti.core.flags import option
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import DATASETS
from zhsenti.evaluation.baselines import BASELINES, NONE
from zhsenti.methods import DEFAULT_ADAPTER
from zhsenti.models.precision import PRECISION_HELP, SCORING_PRECISIONS

# What a quick look takes where the user did not say otherwise.
QUICK: dict[str, Any] = {
    "max_test_samples": 160,
    "max_dev_samples": 120,
    "perturbation_samples": 20,
    "explain_errors": 2,
}


@dataclass
class EvalConfig(DataConfig):
    """The settings of one evaluation; those of the report are not read where ``report`` is off."""

    dataset: str = option("auto", f"auto（训练时用的数据）| {' | '.join(DATASETS)} | 路径", metavar="名称或路径")
    model_path: str = option(DEFAULT_ADAPTER, "要评估的 lora_adapter 文件夹", group="评谁", metavar="文件夹")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）", metavar="名称或路径")
    precision: str = option("auto", PRECISION_HELP, choices=SCORING_PRECISIONS)
    baselines: str = option(
        ",".join(BASELINES),
        f"一起比较的基线，逗号分隔：{'、'.join(BASELINES)}；{NONE} 为不跑",
        group="与谁比较",
        metavar="基线",
    )
    other_adapters: str = option("", "在同样数据上一起比较的其它适配器文件夹，逗号分隔", metavar="文件夹")
    max_train_samples: int = option(0, "基线最多用多少条训练数据，0 为与适配器训练时相同", low=0, metavar="条数")
    max_test_samples: int = option(0, "最多评多少条测试数据，0 为全部", low=0, group="评多少，怎么分组", metavar="条数")
    quick: bool = option(False, "三分钟内的抽样评估（不写入适配器文件夹）")
    slice_columns: str = option("", "另按数据文件里的这些列分组看准确率，逗号分隔", metavar="列名")
    report: bool = option(True, "写完整的报告：校准、挑战集与扰动、错误解释、数据审计；false：只算分数", group="报告")
    output_dir: str = option("evaluation/outputs", "结果写到哪里", metavar="文件夹")
    target_precision: float = option(
        0.99, "机器自己判的部分要达到的准确率，低于阈值的交给人", above=0.5, high=0.9999, metavar="比例"
    )
    max_dev_samples: int = option(1000, "校准温度最多用多少条验证数据，0 为全部", low=0, metavar="条数")
    challenge: str = option("auto", "挑战集：auto（自带的）| none | 同样格式的 CSV", metavar="文件")
    perturbation_samples: int = option(200, "每种扰动用多少条测试数据，0 为不做", low=0, metavar="条数")
    explain_errors: int = option(12, "解释多少条最严重的错误", low=0, metavar="条数")
    audit: bool = option(True, "报告里附数据审计")
