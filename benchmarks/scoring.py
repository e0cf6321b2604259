"""Label scoring against the usual recipe, and int8 against bf16: same rows, in turns in one process.

    python benchmarks/scoring.py --model embedded --dataset ChnSentiCorp --json docs/results/scoring.json

textbook         one text at a time, once with each label word after the prompt, logits of the whole vocabulary
textbook_padded  the same with every row padded to max_length, as the usual recipe has it
zhsenti          SentimentPredictor.log_probs        int8  the same with precision="int8"

The textbooks are slow: of every turn's rows they take a few, evenly spaced by length. Useful work of a prompt token is
2 N FLOP (4 N for the textbook's two passes would be work it makes for itself); attention scores are left out.
``scoring_speedup_vs_textbook`` is zhsenti's as it comes (bf16), against the unpadded textbook.
``--adapter`` scores with a trained adapter in place of the bare model.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch
from common import arguments, load_splits, peak_flops, report
from peft import PeftModel
from textbook import textbook
from transformers import AutoModelForCausalLM

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.models.backbone import load_config
from zhsenti.models.precision import pick_device
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.training.memory import Shape

TURN = 240
TEXTBOOK_ROWS = {"textbook": 12, "textbook_padded": 4}


def textbook_network(predictor: SentimentPredictor, adapter: str | None) -> Any:
    """The usual way to load one: transformers, and PEFT around it."""
    network = AutoModelForCausalLM.from_pretrained(predictor.base.path, dtype=predictor.precision.dtype)
    if adapter:
        network = PeftModel.from_pretrained(network, adapter)
    return network.to(pick_device()).eval()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--adapter", help="训练得到的 lora_adapter 文件夹（默认零样本）")
    own, rest = parser.parse_known_args(argv)
    args = arguments("打分速度：zhsenti（bf16、int8）与通常做法，同一进程轮流", 1200, rest)
    splits = load_splits(args.dataset)
    rows = sample(splits.test or splits.dev, args.limit, 42)
    texts, labels = [row.text for row in rows], np.array([row.label for row in rows])

    def load(precision: str) -> SentimentPredictor:
        if own.adapter:
            return SentimentPredictor.from_folder(own.adapter, model_name=args.model, precision=precision)
        return SentimentPredictor.from_base(args.model, precision=precision)

    systems = {"zhsenti": load("auto")}
    if not torch.cuda.is_available():
        systems["int8"] = load("int8")
    plain = systems["zhsenti"]
    shape = Shape.of(load_config(plain.base.path))
    tokens = [len(plain.method.encode(text).ids) for text in texts]
    seconds = dict.fromkeys([*TEXTBOOK_ROWS, *systems], 0.0)
    possible = dict.fromkeys([*TEXTBOOK_ROWS, *systems], 0.0)
    done = dict.fromkeys([*TEXTBOOK_ROWS, *systems], 0)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    exact: dict[int, np.ndarray] = {}
    for predictor in systems.values():
        predictor.log_probs(texts[:8])  # warm-up
    network = textbook_network(plain, own.adapter)
    textbook(network, plain.method, texts[:1])
    for start in range(0, len(texts), TURN):
        part = list(range(start, min(start + TURN, len(texts))))
        by_length = sorted(part, key=lambda i: tokens[i])
        for name in (*TEXTBOOK_ROWS, *systems):
            if name in systems:
                chosen = part
            else:
                step = max(1, len(part) // TEXTBOOK_ROWS[name])
                chosen = by_length[step // 2 :: step]
            given = [texts[i] for i in chosen]
            before = peak_flops(plain.precision.dtype, pick_device())
            began = time.perf_counter()
            if name in systems:
                found = systems[name].log_probs(given)
            else:
                width = plain.task.max_length if name == "textbook_padded" else 0
                found = textbook(network, plain.method, given, width)
            spent = time.perf_counter() - began
            seconds[name] += spent
            possible[name] += spent * (before + peak_flops(plain.precision.dtype, pick_device())) / 2
            done[name] += len(chosen)
            if name in systems:
                scores[name].append(found)
            elif name == "textbook":
                exact |= dict(zip(chosen, found, strict=True))
            print(f"  {name:15} 至第 {part[-1] + 1} 条：{len(chosen) / spent:.2f} 条/秒", flush=True)

    ours = np.concatenate(scores["zhsenti"])
    lora = shape.lora(int(plain.manifest.training["settings"]["lora_r"])) if plain.manifest else 0
    rate = {name: done[name] / seconds[name] for name in seconds}
    figures = {
        **{f"{name}_reviews_per_s": value for name, value in rate.items()},
        "zhsenti_tokens_per_s": sum(tokens) / seconds["zhsenti"],
        "gemm_peak_gflops": possible["zhsenti"] / seconds["zhsenti"] / 1e9,
        "largest_difference_to_textbook": max(float(np.abs(np.exp(ours[i]) - np.exp(exact[i])).max()) for i in exact),
        "agreement_with_textbook": float(np.mean([ours[i].argmax() == exact[i].argmax() for i in exact])),
        "accuracy": float((ours.argmax(1) == labels).mean()),
    }
    if "int8" in systems:
        small = np.concatenate(scores["int8"])
        figures |= {
            "int8_accuracy": float((small.argmax(1) == labels).mean()),
            "int8_largest_difference": float(np.abs(np.exp(small) - np.exp(ours)).max()),
            "int8_speedup_vs_textbook": rate["int8"] / rate["textbook"],
        }
    figures |= {
        "scoring_speedup_vs_textbook_padded": rate["zhsenti"] / rate["textbook_padded"],
        "scoring_speedup_vs_textbook": rate["zhsenti"] / rate["textbook"],
        "scoring_share_of_gemm_peak": 2.0 * (shape.dense + lora) * sum(tokens) / possible["zhsenti"],
    }
    if "int8" in systems:
        figures |= {
            "int8_speedup": rate["int8"] / rate["zhsenti"],
            "int8_agreement": float((small.argmax(1) == ours.argmax(1)).mean()),
        }
    details = {"adapter": bool(own.adapter), "mean_tokens": sum(tokens) / len(tokens)}
    report("scoring", args, figures, rows, details)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
