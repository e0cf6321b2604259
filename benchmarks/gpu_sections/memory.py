"""What happens when memory runs out, and does a resumed run come to the same weights?

On a GPU memory is made to run out: the allocator gets half of what the work took beyond the network. On a CPU, where
that would end the process, a stand-in raises torch's own error for a pass of more tokens than it allows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from textbook import Watch, sentiment_trainer, training_arguments
from torch import Tensor

from gpu_sections.measure import free_memory_of_this_process
from gpu_sections.networks import keep_weights, random_network, scorer_of, trained
from gpu_sections.options import Options, say
from gpu_sections.reviews import items_of, stand_in_method, texts_of
from gpu_sections.scoring import predictor_of
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.plan import MICRO_TOKENS

UPDATE, UPDATES = 16, 3
LOSS_LIMIT, PROBABILITY_LIMIT = 0.02, 0.03  # two cuts of one update, two sizes of pass, in bfloat16
IDENTITY = {"config": {"processes": 1}, "task": {}, "data": "", "base": ""}  # of a run; a checkpoint's mark holds it


def memory(device: torch.device, options: Options) -> dict[str, Any]:
    """Out of memory in training and in scoring, and resume, with the 0.5B shape."""
    size = options.scale.sizes["0.5b"]
    method = stand_in_method(size.vocab, options.scale.max_length)
    longest = options.scale.max_length
    items = items_of(method, [longest - n % 8 for n in range(UPDATE * UPDATES)])
    scorer = scorer_of(random_network(size, options.precision.dtype, device), method)
    details: dict[str, Any] = {"shape": "0.5b", "provoked_by": "分配器的上限" if device.type == "cuda" else "假的错误"}
    if options.allows("训练中内存不足", 10):
        details["training"] = options.attempt("训练中内存不足", lambda: _training(scorer, items, device, options))
    if options.allows("打分中内存不足", 8):
        details["scoring"] = options.attempt("打分中内存不足", lambda: _scoring(scorer, device, options))
    if options.allows("续训", 15):
        details["resume"] = options.attempt("续训", lambda: _resume(scorer, items, options))
    return details


@contextmanager
def _short_of_memory(scorer: Scorer, device: torch.device, work: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    """Inside, ``work`` as it was does not fit.

    Args:
        scorer: Its passes are what has to fit.
        device: Where.
        work: Run once before, to see what it takes.
    """
    passes: list[int] = []
    score = scorer.method.score

    def counted(network: Any, trie: Any, **kwargs: Any) -> Tensor:
        passes.append(len(trie.ids))
        return score(network, trie, **kwargs)

    def limited(network: Any, trie: Any, **kwargs: Any) -> Tensor:
        if len(trie.ids) > limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory (stand-in): {len(trie.ids)} tokens, at most {limit}")
        return counted(network, trie, **kwargs)

    scorer.method.score = counted  # type: ignore[method-assign]
    try:
        at_rest = free_memory_of_this_process(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        work()
        largest, limit = max(passes), max(passes) // 2
        found: dict[str, Any] = {"tokens_of_the_largest_pass": largest}
        passes.clear()
        if device.type == "cuda":
            peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
            free_memory_of_this_process(device)
            allowed = at_rest + (peak - at_rest) / 2
            torch.cuda.set_per_process_memory_fraction(allowed / total, device)
            found |= {"took_gb": peak / 1e9, "allowed_gb": allowed / 1e9}
        else:
            scorer.method.score = limited  # type: ignore[method-assign]
            found |= {"allowed_tokens": limit}
        yield found
        found["tokens_of_the_largest_pass_then"] = passes[-1]
    finally:
        del scorer.method.score  # the class has the real one
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, device)


def _training(scorer: Scorer, items: list[Encoded], device: torch.device, options: Options) -> dict[str, Any]:
    """Three updates with and without enough memory: halved, finished, the same losses and weights up to rounding."""
    put_back, updates = keep_weights(scorer), [list(range(n, n + UPDATE)) for n in range(0, len(items), UPDATE)]
    start = _weights(scorer)
    runs: list[tuple[int, list[float], Tensor]] = []

    def train() -> None:
        put_back()
        watch = Watch()
        trainer = sentiment_trainer(scorer, items, updates, options.precision, callbacks=[watch])
        trainer.train()
        runs.append((trainer.micro_tokens, watch.losses, _weights(scorer)))

    with _short_of_memory(scorer, device, train) as found:
        train()
    put_back()
    (enough, losses, weights), (less, losses_then, weights_then) = runs
    distance = max(abs(a - b) for a, b in zip(losses, losses_then, strict=True))
    moved = float((weights_then - weights).norm() / (weights - start).norm())
    figures = {"oom_training_loss_distance": distance, "oom_training_weights_distance": moved}
    options.figures |= figures
    options.check(less < enough, "训练中内存不足时没有减小每次前向")
    options.check(distance <= LOSS_LIMIT, f"训练中内存不足之后损失差 {distance:.3g}")
    say(f"训练中内存不足：每次前向 {enough} → {less} token，损失差 {distance:.2g}，权重差为走过路程的 {moved:.2g}")
    return {**found, **figures, "micro_tokens": [enough, less], "losses": [losses, losses_then]}


def _weights(scorer: Scorer) -> Tensor:
    """All trained weights in a row, float32."""
    return torch.cat([p.detach().float().flatten() for _, p in trained(scorer)])


def _scoring(scorer: Scorer, device: torch.device, options: Options) -> dict[str, Any]:
    """Scores with and without enough memory."""
    predictor: Any = predictor_of(scorer.network, scorer.method, options.precision)
    if not hasattr(predictor, "budget"):
        say("打分中内存不足：这个版本的预测还不会减半，没有测")
        return {"not_run": "这个版本的 SentimentPredictor 还没有 budget：内存不足时不会减半"}
    longest, count = options.scale.max_length, 2 * MICRO_TOKENS[device.type][0] // options.scale.max_length
    texts = texts_of(scorer.method, [longest - n % 8 for n in range(min(count, 256))])
    runs: list[tuple[int, np.ndarray]] = []

    def score() -> None:
        fresh: Any = predictor_of(scorer.network, scorer.method, options.precision)
        scores = fresh.log_probs(texts)
        runs.append((fresh.budget, np.exp(scores)))

    with _short_of_memory(scorer, device, score) as found:
        score()
    (enough, scores), (less, scores_then) = runs
    distance = options.figures["oom_scoring_probability_distance"] = float(np.abs(scores - scores_then).max())
    options.check(less < enough, "打分中内存不足时没有减小每次前向")
    options.check(distance <= PROBABILITY_LIMIT, f"打分中内存不足之后概率差 {distance:.3g}")
    say(f"打分中内存不足：每次前向 {enough} → {less} token，概率最多差 {distance:.2g}")
    return {**found, "budget": [enough, less], "largest_difference_of_probabilities": distance}


def _resume(scorer: Scorer, items: list[Encoded], options: Options) -> dict[str, Any]:
    """A run that goes on from its checkpoint in the middle, against the unbroken one, bit for bit."""
    put_back = keep_weights(scorer)
    sampler = LengthBucketSampler([len(item.ids) for item in items], 4, 2, 42)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)

    def train(folder: Path, checkpoint: Path | None) -> tuple[Tensor, list[float]]:
        put_back()
        watch = Watch()
        arguments = training_arguments(4, 8, 1, options.precision, output_dir=str(folder), save_strategy="steps",
                                       save_steps=2)  # fmt: skip
        trainer = sentiment_trainer(scorer, items, [[0]], options.precision, args=arguments, sampler=sampler,
                                    identity=IDENTITY, keep=2, callbacks=[watch])  # fmt: skip
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return _weights(scorer), watch.losses

    try:
        with tempfile.TemporaryDirectory() as name:
            unbroken, losses = train(Path(name, "unbroken"), None)
            resumed, losses_then = train(Path(name, "resumed"), Path(name, "unbroken", "checkpoint-2"))
    finally:
        torch.use_deterministic_algorithms(before)
        put_back()
    differing = int((unbroken != resumed).sum())
    options.figures["resume_differing_weights"] = float(differing)
    options.check(not differing, f"续训之后有 {differing} 个权重与不中断的训练不同")
    say(f"续训：{len(unbroken)} 个权重里有 {differing} 个与不中断的不同")
    return {"weights": len(unbroken), "differing": differing, "losses": losses, "losses_resumed": losses_then}
