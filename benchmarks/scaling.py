"""How cost grows with work: more reviews, longer reviews. Writes JSON, and a plot beside it.

    python benchmarks/scaling.py --model embedded --dataset ChnSentiCorp --json docs/results/scaling.json

reviews  scoring, and one epoch of training, on 1/8, 1/4, 1/2 and all of ``--limit`` real reviews
tokens   the same at 32 to 512 tokens a review: real reviews joined and cut to one length, 4,096 tokens in all

``…_worst_growth`` is the largest rise of seconds per real token from one step to the next: 1 is linear. Growth with
length includes attention, whose work for a token grows with the tokens before it.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import arguments, load_splits, report
from textbook import SEED, sentiment_trainer
from training import ACCUMULATION, BATCH, RANK
from transformers import set_seed

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.evaluation.report.pictures import chinese_font
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import LoraOptions
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.training.batching import LengthBucketSampler

LENGTHS, TOKENS = (32, 64, 128, 256, 512), 4096


def scoring_seconds(predictor: SentimentPredictor, items: list[Encoded]) -> float:
    start = time.perf_counter()
    predictor._score(items, None)
    return time.perf_counter() - start


def training_seconds(predictor: SentimentPredictor, items: list[Encoded]) -> float:
    set_seed(SEED)
    lora = LoraOptions(RANK, 2 * RANK, 0.0, "all-linear")
    scorer = predictor.method.build(predictor.base.path, predictor.precision, lora=lora)
    updates = list(LengthBucketSampler([len(item.ids) for item in items], BATCH, ACCUMULATION, SEED))
    trainer = sentiment_trainer(scorer, items, updates, predictor.precision)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    args = arguments("用时随工作量的增长：条数与长度", 2000, argv)
    predictor = SentimentPredictor.from_base(args.model)
    rows = sample(load_splits(args.dataset).train, args.limit, SEED)
    items = [predictor.method.encode(row.text, row.label) for row in rows]
    stream = [token for item in items for token in item.ids]
    stream *= -(-TOKENS // len(stream))  # a --limit too small to fill the lengths
    works = {"scoring": scoring_seconds, "training": training_seconds}
    steps: dict[str, list[dict[str, Any]]] = {}
    for work, measure in works.items():
        measure(predictor, items[:16])  # warm-up
        steps[f"{work}_reviews"], steps[f"{work}_tokens"] = [], []
        for length in LENGTHS:
            # No two begin alike, so nothing is shared: the worst case of the token trie.
            cut = [Encoded(stream[i * length : (i + 1) * length], length, i % 2) for i in range(TOKENS // length)]
            steps[f"{work}_tokens"].append(step(work, measure(predictor, cut), cut))
        for part in (8, 4, 2, 1):
            some = items[: len(items) // part]
            steps[f"{work}_reviews"].append(step(work, measure(predictor, some), some))
    figures = {
        f"{name}_worst_growth": max(
            (b["seconds"] / b["tokens"]) / (a["seconds"] / a["tokens"]) for a, b in pairwise(found)
        )
        for name, found in steps.items()
    }
    report("scaling", args, figures, rows, {"steps": steps})
    if args.json:
        plot(steps, args.json.with_suffix(".png"))
    return 0


def step(work: str, seconds: float, items: list[Encoded]) -> dict[str, Any]:
    tokens = sum(len(item.ids) for item in items)
    print(f"  {work}  {len(items)} 条、{tokens} token：{seconds:.1f} 秒，{tokens / seconds:.0f} token/秒", flush=True)
    return {"reviews": len(items), "tokens": tokens, "seconds": seconds, "longest": max(len(i.ids) for i in items)}


def plot(steps: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib
    from matplotlib import ticker

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chinese = chinese_font()
    plt.rcParams["font.family"] = [*([chinese] if chinese else []), "DejaVu Sans"]
    names = {"scoring": "打分", "training": "训练"} if chinese else {"scoring": "scoring", "training": "training"}
    words = ("评论条数", "用时（秒）", "每条 token 数", "每千 token 用时（秒）", "正比") if chinese else (
        "reviews", "seconds", "tokens a review", "seconds per 1,000 tokens", "linear")  # fmt: skip
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, (work, name) in zip(("tab:blue", "tab:orange"), names.items(), strict=True):
        found = steps[f"{work}_reviews"]
        reviews, seconds = [s["reviews"] for s in found], [s["seconds"] for s in found]
        left.plot(reviews, seconds, "o-", color=colour, label=name)
        linear = [seconds[-1] * s["tokens"] / found[-1]["tokens"] for s in found]
        left.plot(reviews, linear, ":", color="grey", label=words[4] if work == "training" else None)
        found = steps[f"{work}_tokens"]
        right.plot(
            [s["longest"] for s in found], [1000 * s["seconds"] / s["tokens"] for s in found], "o-", color=colour
        )
    left.set(xscale="log", yscale="log", xlabel=words[0], ylabel=words[1], xticks=reviews, xticklabels=reviews)
    left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    right.set(xscale="log", xlabel=words[2], ylabel=words[3], xticks=LENGTHS, xticklabels=LENGTHS, ylim=(0, None))
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
