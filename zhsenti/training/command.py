"""``zhsenti train``: one run in this process, or the same command in several."""

from __future__ import annotations

import sys

from zhsenti.core.errors import ConfigError, ZhsentiError
from zhsenti.core.flags import parse
from zhsenti.core.paths import package_file
from zhsenti.training.config import TrainConfig
from zhsenti.training.processes import launch, let_main_speak, started_count

EXAMPLES = (
    "zhsenti train --dataset 我的评论.csv",
    "zhsenti train --config laptop --num_epochs 2",
    "zhsenti train --resume_from_checkpoint auto",
)


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says.

    Args:
        argv: The words after ``train``; None for those of the process.

    Returns:
        The exit code.

    Raises:
        ZhsentiError: The user's mistake, and then nothing has been written; or a run that cannot go on.
    """
    about = "微调中文情感分类器：一行命令，从数据到保存好的适配器；断了能接着跑。"
    config, sources = parse(TrainConfig, argv, about, examples=EXAMPLES, configs=package_file("zhsenti", "configs"))
    started = started_count()
    if config.num_processes > 1 and started not in (1, config.num_processes):
        raise ConfigError("进程数说法不一", expected=f"--num_processes {started}", found=str(config.num_processes))
    if config.num_processes > 1 and started == 1:
        words = sys.argv[1:] if argv is None else argv
        return launch(config.num_processes, ["-P", "-m", "zhsenti", "train", *words], config.folder)
    from zhsenti.training.run import train

    try:
        train(config, sources)
    except ZhsentiError:
        let_main_speak()
        raise
    return 0
