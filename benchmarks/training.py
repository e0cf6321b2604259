"""LoRA training against the usual recipe: same reviews in the same order, same first adapter, in turns in one process.

    python benchmarks/training.py --model embedded --dataset ChnSentiCorp --json docs/results/training.json

textbook              transformers Trainer + PEFT, rows padded to max_length, causal LM loss over the whole vocabulary
textbook_checkpoint   the same with gradient checkpointing
dynamic               the same as textbook, padded to the longest row of each batch
dynamic_labels        dynamic with zhsenti's loss (over the label words): the curve zhsenti's must lie on
dynamic_labels_whole  the same, an update in one piece: equal mathematics in other shapes, so its distance is rounding
zhsenti               what scripts/train_label_scoring.py does

A turn is one update, timed from its first batch to its last log; the Trainer's own start is left out for all. The
textbook systems take every fourth turn only: they are slow, and padded rows all cost the same. Memory is watched in an
untimed turn on the longest reviews.
Useful work of a real (unpadded) token is the frozen weights' forward and input gradients, 4 N FLOP, and the adapter's
6 n; attention scores are left out. zhsenti does less than that for the same result (shared beginnings, last layer):
``training_share_executed`` counts what it really does.
Peak memory at default settings and the planner's estimate come from a run of the training command itself, on reviews
half of which fill max_length.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import ROOT, MemoryWatch, arguments, load_splits, peak_flops, report, write_rows
from textbook import SEED, InOrder, Watch, sentiment_trainer, training_arguments
from transformers import Trainer, set_seed

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.methods import get_method
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_config, unwrap
from zhsenti.models.precision import pick_device, pick_precision
from zhsenti.models.sources import resolve_model
from zhsenti.task import SentimentTask
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.memory import Shape
from zhsenti.training.plan import MICRO_TOKENS, training_flops

BATCH, ACCUMULATION, RANK = 8, 2, 8
SYSTEMS = ("zhsenti", "dynamic_labels", "dynamic", "dynamic_labels_whole", "textbook", "textbook_checkpoint")
SLOW = {"textbook", "textbook_checkpoint"}


class Bench:
    """One network in memory; each system owns a copy of the adapter's weights and an optimizer."""

    def __init__(self, items: list[Encoded], updates: list[list[int]], method: Any, folder: Path) -> None:
        self.items, self.updates, self.method = items, updates, method
        self.device, self.precision = pick_device(), pick_precision("auto")
        set_seed(SEED)
        self.scorer = method.build(folder, self.precision, lora=LoraOptions(RANK, 2 * RANK, 0.0, "all-linear"))
        self.network: Any = self.scorer.network
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in self.parameters]
        self.weights = {name: [w.clone() for w in start] for name in SYSTEMS}
        self.optimizers = {name: torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0) for name in SYSTEMS}
        self.seconds = dict.fromkeys(SYSTEMS, 0.0)
        self.tokens = dict.fromkeys(SYSTEMS, 0)
        self.reviews = dict.fromkeys(SYSTEMS, 0)
        self.memory: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {name: [] for name in SYSTEMS}
        self.peaks: dict[str, list[tuple[float, float]]] = {name: [] for name in SYSTEMS}

    def turn(self, name: str, number: int) -> None:
        """Train ``name`` on update ``number``."""
        before = peak_flops(self.precision.dtype, self.device)
        watch = self._train(name, number, self.optimizers[name])
        self.weights[name] = [p.detach().clone() for p in self.parameters]
        peak = (before + peak_flops(self.precision.dtype, self.device)) / 2
        order = self.updates[number]
        self.seconds[name] += watch.seconds
        self.tokens[name] += sum(len(self.items[i].ids) for i in order)
        self.reviews[name] += len(order)
        self.peaks[name].append((watch.seconds, peak))
        self.losses[name] += watch.losses
        rate = len(order) / watch.seconds
        print(f"  {name:20} 更新 {number + 1}：{watch.seconds:6.1f} 秒，{rate:.2f} 条/秒", flush=True)

    def watch_memory(self, name: str) -> None:
        """Peak memory on the update with the longest review; weights and optimizer stay as they were. Warms up too."""
        longest = max(range(len(self.updates)), key=lambda n: max(len(self.items[i].ids) for i in self.updates[n]))
        with MemoryWatch() as memory:
            self._train(name, longest, torch.optim.AdamW(self.parameters, lr=1e-4))
        self.memory[name] = memory.peak
        print(f"  {name:20} 内存：{memory.peak:.1f} GB", flush=True)

    def _train(self, name: str, number: int, optimizer: Any) -> Watch:
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, self.weights[name], strict=True):
                parameter.copy_(saved)
        watch = Watch()
        self.trainer(name, self.updates[number], optimizer, watch).train()
        return watch

    def trainer(self, name: str, order: list[int], optimizer: Any, watch: Watch) -> Trainer:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        ours = name == "zhsenti"
        base = unwrap(self.network)
        if name == "textbook_checkpoint":
            base.activation_checkpointing_enable({"use_reentrant": False})
        elif hasattr(base, "activation_checkpointing_disable"):
            base.activation_checkpointing_disable()
        common: dict[str, Any] = {"optimizers": (optimizer, schedule), "callbacks": [watch]}
        if ours:
            return sentiment_trainer(self.scorer, self.items, [order], self.precision, **common)
        words = [ids[0] for ids in self.method.word_ids]
        rows = [(self.items[i].ids, words[self.items[i].label or 0], 0) for i in order]
        size = len(order) if name == "dynamic_labels_whole" else BATCH
        return InOrder(
            model=self.network,
            args=training_arguments(1, size, -(-len(order) // size), self.precision),
            train_dataset=rows,  # type: ignore[arg-type]
            size=size,
            width=self.method.task.max_length + 1 if name in SLOW else None,
            words=words if "labels" in name else None,
            **common,
        )


def executed_flops(shape: Shape, scorer: Scorer, items: list[Encoded]) -> float:
    """Products zhsenti really makes for one update: each node once, the last MLP only where read."""
    from zhsenti.methods.prompt import token_batches

    layer, total = shape.dense / shape.layers, 0.0
    attended = shape.hidden * (shape.queries + 2 * shape.keys)  # the last layer's queries, keys and values
    for batch in token_batches([len(i.ids) for i in items], MICRO_TOKENS[pick_device().type][0]):
        trie = scorer.method.collate([items[i] for i in batch])["trie"]
        nodes, reads = len(trie.ids), len(trie.reads)
        total += 4 * (nodes * (layer * (shape.layers - 1) + attended) + reads * (layer - attended))
    return total


def training_run(model: str, rows: list[Any], *flags: str) -> dict[str, Any]:
    """The training command in a process of its own: its summary, peak and estimated memory in it, and its losses."""
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name), train=rows, dev=rows[:: max(1, len(rows) // 16)])
        command = [sys.executable, "scripts/train_label_scoring.py", "--model_name", model, "--dataset", name,
                   "--num_epochs", "1", "--logging_steps", "1", "--output_dir", f"{name}/run", *flags]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        lines = (Path(name) / "run" / "train_results.json").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        summary = {
            key: value for key, value in events[-1].items() if key not in ("adapter", "data", "base", "versions")
        }
        return {**summary, "losses": [event["loss"] for event in events if event["event"] == "train"]}


def main(argv: list[str] | None = None) -> int:
    args = arguments("训练速度：zhsenti 与通常做法，同一进程轮流", 96, argv)
    task = SentimentTask()
    splits = load_splits(args.dataset)
    rows = sample(splits.train, args.limit, SEED)
    folder = resolve_model(args.model).path
    method = get_method("label_scoring")(task, Tokenizer(folder))
    items = [method.encode(row.text, row.label) for row in rows]
    lengths = [len(item.ids) for item in items]
    updates = list(LengthBucketSampler(lengths, BATCH, ACCUMULATION, SEED))
    shape = Shape.of(load_config(folder))

    by_length = sorted(splits.train[:4000], key=lambda row: -len(row.text))
    print("默认设置下的一次训练（内存）……", flush=True)
    run = training_run(args.model, [*by_length[: args.limit // 2], *rows[: args.limit // 2]])

    bench = Bench(items, updates, method, folder)
    for name in SYSTEMS:
        bench.watch_memory(name)
    for number in range(len(updates)):
        for name in SYSTEMS:
            if name not in SLOW or number % 4 == 0:
                bench.turn(name, number)

    def rate(name: str) -> float:
        return bench.reviews[name] / bench.seconds[name]

    def useful(name: str) -> float:
        return training_flops(shape, bench.tokens[name]) + 6.0 * shape.lora(RANK) * bench.tokens[name]

    def possible(name: str) -> float:
        return sum(seconds * peak for seconds, peak in bench.peaks[name])

    executed = sum(executed_flops(shape, bench.scorer, [items[i] for i in update]) for update in updates)

    def distance(name: str) -> float:
        return max(abs(a - b) for a, b in zip(bench.losses[name], bench.losses["dynamic_labels"], strict=False))

    figures = {
        **{f"{name}_reviews_per_s": rate(name) for name in SYSTEMS},
        **{f"{name}_tokens_per_s": bench.tokens[name] / bench.seconds[name] for name in SYSTEMS},
        **{f"{name}_useful_gflops": useful(name) / bench.seconds[name] / 1e9 for name in SYSTEMS},
        **{f"{name}_peak_memory_gb": peak for name, peak in bench.memory.items()},
        "gemm_peak_gflops": possible("zhsenti") / bench.seconds["zhsenti"] / 1e9,
        "loss_distance_zhsenti": distance("zhsenti"),
        "loss_distance_rounding": distance("dynamic_labels_whole"),
        "estimated_memory_gb": run["estimated_memory_gb"],
        "training_speedup_vs_textbook_checkpoint": rate("zhsenti") / rate("textbook_checkpoint"),
        "training_speedup_vs_dynamic": rate("zhsenti") / rate("dynamic"),
        "training_share_executed": executed / possible("zhsenti"),
        "training_speedup_vs_textbook": rate("zhsenti") / rate("textbook"),
        "training_share_of_gemm_peak": useful("zhsenti") / possible("zhsenti"),
        "training_peak_memory_gb": run["peak_memory_gb"],
    }
    details = {"losses": bench.losses, "default_run": run, "mean_tokens": sum(lengths) / len(lengths)}
    report("training", args, figures, rows, details)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
