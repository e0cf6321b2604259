"""From the start of the process to the first prediction, and every command's --help.

    python benchmarks/startup.py --model embedded --json docs/results/startup.json

bare      a Python process that imports torch and reads the base's weights into memory, nothing else
predict   scripts/inference.py --text … with an adapter trained here on a few reviews

Each process runs ``--limit`` times in turns; figures are medians. ``startup_overhead_s`` is predict − bare,
``help_s`` the slowest command's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from common import ROOT, arguments, load_splits, report, write_rows

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.models.sources import resolve_model

BARE = """
import sys, torch
from safetensors import safe_open
for path in sys.argv[1:]:
    with safe_open(path, "pt") as file:
        weights = [file.get_tensor(name).clone() for name in file.keys()]
"""


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    args = arguments("启动：从进程开始到第一条预测，以及各命令的 --help", 5, argv)
    rows = sample(load_splits(args.dataset).train, 24, 42)
    weights = [str(path) for path in sorted(resolve_model(args.model).path.glob("*.safetensors"))]
    commands = sorted(
        str(path.relative_to(ROOT)) for path in [*ROOT.glob("scripts/*.py"), *ROOT.glob("evaluation/*.py")]
    )
    took: dict[str, list[float]] = {"bare": [], "predict": [], **{name: [] for name in commands}}
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name), train=rows[:16], dev=rows[16:])
        print("训练一个小适配器……", flush=True)
        seconds("scripts/train_label_scoring.py", "--model_name", args.model, "--dataset", name,
                "--num_epochs", "1", "--output_dir", f"{name}/run")  # fmt: skip
        predict = ["scripts/inference.py", "--model_path", f"{name}/run/lora_adapter", "--text", rows[0].text]
        for turn in range(args.limit + 1):  # the first turn fills caches and is not counted
            for key, command in {
                "bare": ["-c", BARE, *weights],
                "predict": predict,
                **{script: [script, "--help"] for script in commands},
            }.items():
                spent = seconds(*command)
                if turn:
                    took[key].append(spent)
            if turn:
                print(f"  {turn}：bare {took['bare'][-1]:.2f} 秒，predict {took['predict'][-1]:.2f} 秒", flush=True)
    middle = {key: median(values) for key, values in took.items()}
    figures = {
        "bare_s": middle["bare"],
        "first_prediction_s": middle["predict"],
        "startup_overhead_s": middle["predict"] - middle["bare"],
        "help_s": max(middle[name] for name in commands),
    }
    report("startup", args, figures, rows, {"seconds": took})
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
