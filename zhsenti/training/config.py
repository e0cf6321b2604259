"""Everything that decides a training run: the flags and YAML keys of ``zhsenti train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhsenti.core.flags import option
from zhsenti.core.paths import ADAPTER, run_folder, user_path
from zhsenti.data.config import DataConfig
from zhsenti.methods import DEFAULT, METHODS
from zhsenti.models.precision import PRECISIONS
from zhsenti.task import SentimentTask


@dataclass
class ModelConfig:
    """What is trained: by which method, on which base, for which task."""

    method: str = option(
        DEFAULT, "方法：标签打分，或在同一基座上接一个分类头", choices=METHODS, group="方法、基座与任务"
    )
    model_name: str = option(
        "auto",
        "基座：auto | embedded | embedded-1.5b | hub id | ModelScope id | 文件夹 | .gguf",
        metavar="名称或路径",
    )
    task: str | dict[str, Any] | None = option(
        None, "任务定义（标签、标签词、模板）：YAML 文件；或写在 --config 的 task 一节", metavar="YAML"
    )
    max_length: int | None = option(None, "一条提示最多几个 token，超出时只截评论的中段（默认用任务定义，256）", low=16)

    def resolved_task(self) -> SentimentTask:
        """The task this run trains: the default, or the YAML's, with ``max_length`` applied over it.

        Raises:
            ConfigError: The file cannot be read, or defines no task.
        """
        return SentimentTask.resolve(self.task, self.max_length)


@dataclass
class TrainConfig(DataConfig, ModelConfig):
    """Everything that decides a training run. On the help page the flags of ``ModelConfig`` come first."""

    max_train_samples: int = option(0, "最多用多少条训练数据，0 为全部", low=0, group="数据")
    max_dev_samples: int = option(0, "最多用多少条验证数据，0 为全部", low=0)

    lora_r: int = option(8, "LoRA 的秩", low=1, high=4096, group="LoRA 与精度")
    lora_alpha: int = option(16, "LoRA 的缩放系数 alpha", low=1, high=1_000_000)
    lora_dropout: float = option(0.0, "LoRA 的 dropout 概率（CPU 上大于 0 会慢约四成）", low=0, high=0.9)
    lora_target_modules: str = option(
        "all-linear", "LoRA 作用的层：all-linear，或逗号分隔的层名，如 q_proj,v_proj", metavar="层名"
    )
    use_qlora: bool | None = option(None, "4 比特基座（NF4 + 双重量化）；默认只在内存放不下时用，false 为不用")
    gradient_checkpointing: bool = option(False, "用计算换内存（约慢三分之一）；默认只在内存放不下时用")
    memory_budget: str | None = option(
        None, "训练最多用多少内存（有 GPU 时为显存），如 4GB；默认按空闲内存", metavar="大小"
    )
    precision: str = option("auto", "计算精度", choices=PRECISIONS)

    num_epochs: float = option(3.0, "训练几轮", above=0, high=100_000, group="训练")
    batch_size: int = option(8, "每批几条（长短相近）；一次前向放多少由内存决定，不影响结果", low=1)
    gradient_accumulation_steps: int = option(2, "累积几批更新一次；有效批量 = 二者之积", low=1)
    learning_rate: float = option(1e-4, "峰值学习率", above=0)
    lr_scheduler_type: str = option(
        "cosine", "学习率曲线", choices=("cosine", "linear", "constant", "constant_with_warmup"), metavar="曲线"
    )
    warmup_ratio: float = option(0.06, "预热步数占总步数的比例", low=0, high=1)
    weight_decay: float = option(0.0, "权重衰减", low=0)
    max_grad_norm: float = option(1.0, "梯度裁剪的范数", low=0)
    eval_steps: int = option(0, "每多少步验证并存一次检查点，0 为每轮一次", low=0)
    logging_steps: int = option(10, "每多少步记一次损失", low=1)
    early_stopping: int = option(0, "验证准确率连续几次不升就停，0 为不停", low=0)
    save_total_limit: int = option(2, "最多留几个检查点", low=1, group="保存与续训")

    num_processes: int = option(
        1, "本机几个进程一起训练（多显卡时一卡一个）；有效批量不变", low=1, high=1024, group="多进程"
    )
    fsdp: bool = option(False, "把冻结的基座按层分到各进程（FSDP2）：省显存，较慢")
    output_dir: str | None = option(
        None, "输出目录（默认 experiments/方法的名字）", metavar="文件夹", group="保存与续训"
    )
    resume_from_checkpoint: str = option(
        "none", "续训：auto（最后一个完整的检查点）| none（从头）| 检查点的路径", metavar="检查点"
    )
    wandb_project: str = option("zhsenti", "W&B 项目名（已登录才同步）", metavar="名称", group="记录")
    run_name: str | None = option(None, "运行名（W&B 里显示）", metavar="名称")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return user_path(self.output_dir or run_folder(self.method))

    @property
    def adapter(self) -> Path:
        """Where the trained adapter will be."""
        return self.folder / ADAPTER

    @property
    def effective_batch(self) -> int:
        """Reviews in one update."""
        return self.batch_size * self.gradient_accumulation_steps
