"""``zhsenti predict --input``: what it costs beside the model, its memory for many rows, and what a kill leaves.

    python benchmarks/files.py --model embedded --dataset ChnSentiCorp --json docs/results/files.json

file_share_of_core        seconds of ``SentimentPredictor.predict_batch`` on the rows in memory over those of the whole
                          job on the same rows, CSV to Parquet; one loaded model, one half of the rows core
                          first, the other half file first.
file_rss_ratio_1m_vs_10k  peak resident memory (Linux: VmHWM) of a process that predicts a CSV of a million rows over
                          that for ten thousand: the dataset's texts, numbered, and a predictor that counts keywords,
                          since loaded weights would hide a growth.
kill_resume_equal         1 if the result of the real command, with the real model, is byte for byte that of an
                          undisturbed run, though it was killed (SIGKILL) 20 times at random moments. The rows are
                          the dataset's shortest and windows are of 32 rows (usually 512), written down one by one, so
                          that a minute or two hold many of them.

``--adapter`` scores with a trained adapter in place of a fresh one.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stderr
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, arguments, fresh_adapter, load_splits, report

from zhsenti.core.errors import exit_on_error
from zhsenti.core.hashing import file_sha256
from zhsenti.data.split import sample
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.batch.shards import MANIFEST
from zhsenti.prediction.config import PredictConfig
from zhsenti.prediction.predictor import SentimentPredictor

MANY, FEW, KILLED = 1_000_000, 10_000, 600  # rows
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
# VmHWM and not ru_maxrss, which would be the parent's where that was larger before exec.
COUNTING = """
import sys, torch
from tests.fakes import KeywordPredictor
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask
from zhsenti.prediction.batch.job import predict_file
predict_file(PredictConfig(input=sys.argv[1], output=sys.argv[2]), SentimentTask(), KeywordPredictor)
print(open("/proc/self/status").read())
"""
# The command itself.
SMALL_WINDOWS = """
from zhsenti.prediction.batch import shards, windows
windows.WINDOW_ROWS, shards.SHARD_SECONDS = 32, 0.0
from zhsenti.cli import run
run()
"""


def write_csv(path: Path, texts: Iterable[str]) -> Path:
    """As they come: a million rows are never in this process's memory."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "text"))
        writer.writerows(enumerate(texts))
    return path


def share_of_core(adapter: str, model: str, texts: list[str], folder: Path) -> dict[str, Any]:
    """Seconds of both ways over all rows, and the largest difference between their scores."""
    import pyarrow.parquet

    source, output = folder / "share.csv", folder / "share.parquet"
    predictor = SentimentPredictor.from_folder(adapter, model_name=model)
    predictor.predict_batch(texts[:8])  # warm-up

    def core(half: list[str]) -> list[tuple[float, ...]]:
        return [tuple(one.scores.values()) for one in predictor.predict_batch(half)]

    def file() -> None:
        with redirect_stderr(io.StringIO()):
            predict_file(PredictConfig(input=str(source), output=str(output)), predictor.task, lambda: predictor)

    seconds, worst = {"core": 0.0, "file": 0.0}, 0.0
    for half, order in ((texts[0::2], ("core", "file")), (texts[1::2], ("file", "core"))):
        write_csv(source, half)
        scores: list[tuple[float, ...]] = []
        for way in order:
            began = time.perf_counter()
            if way == "core":
                scores = core(half)
            else:
                file()
            spent = time.perf_counter() - began
            seconds[way] += spent
            print(f"  {way}：{len(half) / spent:.2f} 条/秒", flush=True)
        table = pyarrow.parquet.read_table(output)
        written = np.column_stack([table[f"score_{label}"] for label in predictor.task.labels])
        worst = max(worst, float(np.abs(written - np.array(scores)).max()))
    return {"seconds": seconds, "largest_difference": worst}


def peak_mb(texts: list[str], rows: int, folder: Path) -> float:
    """Peak memory of a process that predicts ``rows`` rows."""
    source = write_csv(folder / f"{rows}.csv", (f"{n} {text}" for n, text in enumerate(islice(cycle(texts), rows))))
    command = [sys.executable, "-c", COUNTING, str(source), str(source.with_suffix(".parquet"))]
    began = time.perf_counter()
    done = subprocess.run(command, env=ENV, capture_output=True, text=True)
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"没有做完：\n{done.stderr[-2000:]}")
    peak = int(found[1]) * 1024 / 1e6
    print(f"  {rows:,} 行：峰值 {peak:.0f} MB，{time.perf_counter() - began:.0f} 秒", flush=True)
    for path in folder.glob(f"{rows}.*"):
        path.unlink()
    return peak


def killed(adapter: str, model: str, texts: list[str], kills: int, folder: Path) -> dict[str, Any]:
    """How many results were compared, how many were equal, and how many kills left how many shards behind."""
    source = write_csv(folder / "killed.csv", texts)
    whole, output = folder / "whole.parquet", folder / "killed.parquet"

    def start(to: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SMALL_WINDOWS, "predict", "--model_path", adapter, "--model_name", model,
                   "--input", str(source), "--output", str(to)]  # fmt: skip
        return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE)

    def finish(run: subprocess.Popen[bytes]) -> None:
        _, said = run.communicate()
        if run.returncode:
            raise SystemExit(f"没有做完：\n{said.decode()[-2000:]}")

    began = time.perf_counter()
    finish(start(whole))
    usual, chance = time.perf_counter() - began, random.Random(6)
    manifest = output.with_name(f".{output.name}.parts") / MANIFEST
    equal, shards = [], []
    while len(shards) < kills:
        run = start(output)
        try:
            run.communicate(timeout=chance.uniform(0, 0.5 * usual))
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            there = manifest.read_bytes().count(b"\n") - 1 if manifest.exists() else 0
            shards.append(there)
            print(f"  杀死 {len(shards)} 次，已存 {there} 块", flush=True)
        else:
            finish(run)
            equal.append(file_sha256(output) == file_sha256(whole))
            output.unlink()
    finish(start(output))
    equal.append(file_sha256(output) == file_sha256(whole))
    return {"undisturbed_s": usual, "shards_left_by_kills": shards, "results_equal": equal}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--adapter", help="训练得到的 lora_adapter 文件夹（默认现做一个没有训练过的）")
    parser.add_argument("--rows", type=int, nargs=2, default=[FEW, MANY], help="比较内存的两个行数")
    parser.add_argument("--kills", type=int, default=20, help="杀死几次")
    parser.add_argument("--max_chars", type=int, default=1000, help="只用不超过几个字的评论（慢的机器上省时间）")
    own, rest = parser.parse_known_args(argv)
    args = arguments("成批预测文件：开销、内存、中断", 2000, rest)
    splits = load_splits(args.dataset)
    everything = [*splits.test, *splits.dev, *splits.train]
    rows = sample([row for row in everything if len(row.text) <= own.max_chars], args.limit, 42)
    texts = [row.text for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = (peak_mb(texts, count, folder) for count in own.rows)
        adapter = own.adapter or fresh_adapter(args.model, folder)
        share = share_of_core(adapter, args.model, texts, folder)
        shortest = sorted((row.text for row in everything), key=len)[: min(args.limit, KILLED)]
        kill = killed(adapter, args.model, shortest, own.kills, folder)
    seconds = share["seconds"]
    figures = {
        "core_reviews_per_s": len(rows) / seconds["core"],
        "file_reviews_per_s": len(rows) / seconds["file"],
        "file_largest_score_difference": share["largest_difference"],
        "file_peak_mb_few": few,
        "file_peak_mb_many": many,
        "kills": len(kill["shards_left_by_kills"]),
        "file_share_of_core": seconds["core"] / seconds["file"],
        "file_rss_ratio_1m_vs_10k": many / few,
        "kill_resume_equal": int(all(kill["results_equal"])),
    }
    details = {"seconds": seconds, "memory_rows": own.rows, "kill": kill, "trained_adapter": bool(own.adapter)}
    report("files", args, figures, rows, details, f" --max_chars {own.max_chars}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
