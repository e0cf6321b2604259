"""Whether the memory planner keeps its word: estimate against measured peak, and that the plan changes no result.

    python benchmarks/memory.py --model embedded --dataset ChnSentiCorp --json docs/results/memory.json

Each plan is a training command in a process of its own, on ``--limit`` reviews half of which fill max_length.
``memory_worst_error`` is the largest |estimate / measured - 1|; ``loss_distance`` the largest difference between the
loss curves of two plans of one base (4-bit weights are another base, so they are compared with nothing).
``gpu_1_5b_estimates_not_measured`` is what the planner expects of Qwen2.5-1.5B on a GPU, r = 8: estimates, not figures.
"""

from __future__ import annotations

import sys
from itertools import combinations
from typing import Any

from common import arguments, load_splits, report
from textbook import SEED
from training import RANK, training_run

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.training.memory import QWEN_15B, gpu_memory_bytes
from zhsenti.training.plan import MICRO_TOKENS

PLANS: dict[str, list[str]] = {
    "default": [],
    "budget_4gb": ["--memory_budget", "4GB"],
    "budget_3gb": ["--memory_budget", "3GB", "--use_qlora", "false"],
    "qlora": ["--use_qlora", "--memory_budget", "4GB"],
}


def gpu_estimates() -> list[dict[str, Any]]:
    """GB for each base, with and without recomputation, by the tokens of a pass."""
    return [
        {
            "qlora": qlora,
            "checkpointing": checkpointing,
            "gb_by_micro_tokens": {
                tokens: round(gpu_memory_bytes(QWEN_15B, tokens=tokens, checkpointing=checkpointing, qlora=qlora,
                                               weight_bytes=2, lora_r=RANK) / 1e9, 2)
                for tokens in MICRO_TOKENS["cuda"]
            },
        }
        for qlora in (False, True)
        for checkpointing in (False, True)
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    args = arguments("内存：估算与实测，以及各种安排的结果是否相同", 64, argv)
    train = load_splits(args.dataset).train
    rows = sample(train, args.limit // 2, SEED)
    rows += sorted(train[:4000], key=lambda row: -len(row.text))[: args.limit - len(rows)]
    runs = {}
    for name, flags in PLANS.items():
        runs[name] = run = training_run(args.model, rows, *flags)
        made = f"每次前向至多 {run['micro_tokens']} token{'，重算' if run['gradient_checkpointing'] else ''}"
        print(f"  {name:10} 估 {run['estimated_memory_gb']} GB，实测 {run['peak_memory_gb']} GB（{made}）", flush=True)
    same_base = [name for name in PLANS if name != "qlora"]
    figures = {
        **{f"{name}_estimated_gb": run["estimated_memory_gb"] for name, run in runs.items()},
        **{f"{name}_measured_gb": run["peak_memory_gb"] for name, run in runs.items()},
        "loss_distance": max(
            abs(x - y)
            for a, b in combinations(same_base, 2)
            for x, y in zip(runs[a]["losses"], runs[b]["losses"], strict=True)
        ),
        "memory_worst_error": max(abs(r["estimated_memory_gb"] / r["peak_memory_gb"] - 1) for r in runs.values()),
    }
    report("memory", args, figures, rows, {"runs": runs, "gpu_1_5b_estimates_not_measured": gpu_estimates()})
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
