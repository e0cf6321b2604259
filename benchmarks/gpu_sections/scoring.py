"""How fast does it score? Against textbook label scoring, and against batches of a plain transformers forward pass.

zhsenti   SentimentPredictor.log_probs, texts in, probabilities out
textbook  one text at a time, once with each label word after the prompt, logits of the whole vocabulary
batched   texts sorted by length, 32 a batch, padded to the longest, logits of the last token, whole vocabulary
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from textbook import textbook

from gpu_sections.measure import free_memory_of_this_process, synchronize
from gpu_sections.networks import random_network, scorer_of
from gpu_sections.options import Options, say
from gpu_sections.outcomes import padded
from gpu_sections.reviews import stand_in_method, texts_of
from zhsenti.methods.base import Method, Scorer
from zhsenti.models.precision import Precision
from zhsenti.models.sources import ResolvedModel
from zhsenti.prediction.predictor import SentimentPredictor

BATCH = 32
WHICH_MODEL = ResolvedModel("random", "random", "随机权重", Path(), "", "测速")


def scoring(device: torch.device, options: Options) -> dict[str, Any]:
    """Reviews a second of 1.5B and 0.5B, with the adapter as it is and merged."""
    details = {}
    for name in ("1.5b", "0.5b"):
        if options.allows(f"{name} 的打分速度", 12):
            details |= options.attempt(f"{name} 的打分速度", lambda name=name: _both_forms(name, device, options))
            free_memory_of_this_process(device)
    options.target("scoring_1.5b_unmerged_speedup_vs_textbook", 6.0)
    return details


def _both_forms(name: str, device: torch.device, options: Options) -> dict[str, Any]:
    size, details = options.scale.sizes[name], {}
    method = stand_in_method(size.vocab, options.scale.max_length)
    network: Any = scorer_of(random_network(size, options.precision.dtype, device), method).network
    for form in ("unmerged", "merged"):
        if options.allows(f"{name} 的打分速度（{form}）", 8):
            network = network.merge_and_unload() if form == "merged" else network
            details[f"{name}_{form}"] = _measure(f"{name}_{form}", network, method, device, options)
    return details


def predictor_of(network: Any, method: Method, precision: Precision) -> SentimentPredictor:
    """The product's predictor over a network that is there already."""
    return SentimentPredictor(Scorer(method, network), WHICH_MODEL, precision)


def _measure(name: str, network: Any, method: Method, device: torch.device, options: Options) -> dict[str, Any]:
    scale, precision = options.scale, options.precision
    predictor = predictor_of(network, method, precision)
    texts = texts_of(method, options.lengths[: scale.scored])
    counts = {"zhsenti": scale.scored, "textbook": scale.textbook_scored, "batched": scale.batched_scored}
    seconds, scores = dict.fromkeys(counts, 0.0), dict[str, np.ndarray]()
    turns = 0
    for turn in range(1 + scale.turns):  # the first one warms up
        if turn > 1 and not options.allows(f"{name} 的第 {turn} 轮", 1.3 * sum(seconds.values()) / turns):
            break
        for system, count in counts.items():
            given = texts[: count if turn else max(2, count // 4)]
            synchronize(device)
            start = time.perf_counter()
            if system == "zhsenti":
                scores[system] = predictor.log_probs(given)
            elif system == "batched":
                scores[system] = _batched(network, method, given, precision, device)
            else:
                with torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
                    scores[system] = textbook(network, method, given)
            synchronize(device)
            seconds[system] += (time.perf_counter() - start) if turn else 0.0
        turns += bool(turn)
    return _figures(name, options, {s: turns * counts[s] / seconds[s] for s in counts}, scores)


def _figures(name: str, options: Options, rate: dict[str, float], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    figures, prefix = options.figures, f"scoring_{name}"
    for system, value in rate.items():
        figures[f"{prefix}_{system}_reviews_per_s"] = value
    figures[f"{prefix}_speedup_vs_textbook"] = rate["zhsenti"] / rate["textbook"]
    figures[f"{prefix}_speedup_vs_batched"] = rate["zhsenti"] / rate["batched"]
    ours = np.exp(scores["zhsenti"])
    apart = {s: float(np.abs(ours[: len(scores[s])] - np.exp(scores[s])).max()) for s in ("textbook", "batched")}
    options.check(max(apart.values()) < 0.05, f"{name} 的概率与通常做法差 {max(apart.values()):.3f}")
    say(f"{name}：{rate['zhsenti']:.1f} 条/秒，逐条 {rate['textbook']:.1f}，批量 {rate['batched']:.1f}；"
        f"概率最多差 {max(apart.values()):.3f}")  # fmt: skip
    return {"largest_difference_of_probabilities": apart}


@torch.inference_mode()
def _batched(network: Any, method: Method, texts: list[str], precision: Precision, device: torch.device) -> np.ndarray:
    """Class log-probabilities (N, C) as a pipeline would get them."""
    items = [method.encode(text) for text in texts]
    order = sorted(range(len(items)), key=lambda i: -len(items[i].ids))
    words = [ids[0] for ids in method.word_ids]
    scores = np.empty((len(items), len(words)), dtype=np.float32)
    network.eval()
    with torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            rows, _ = padded([items[i] for i in chosen], device, left=True)
            logits = network(**rows, use_cache=False, logits_to_keep=1).logits[:, -1]
            scores[chosen] = logits.float()[:, words].log_softmax(-1).cpu().numpy()
    return scores
