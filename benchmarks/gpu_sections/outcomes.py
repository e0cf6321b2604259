"""What a network says of a batch: hidden states, label log-probabilities, gradients of LoRA, loss curves.

By the product (``decode`` over a trie) and by transformers and peft themselves on padded rows with a mask.
Shapes: B reviews, T tokens of the longest, C classes, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from textbook import InOrder, Watch, sentiment_trainer, training_arguments
from torch import Tensor
from torch.nn import functional as F

from gpu_sections.networks import keep_weights, trained
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import unwrap
from zhsenti.models.decoder import decode
from zhsenti.models.precision import Precision

BATCH = 8


@dataclass(frozen=True)
class Outcome:
    """Of one batch.

    Attributes:
        hidden: (B, D), the final states at the prompts' last tokens, float32.
        log_probs: (B, C), float32.
        gradients: Of every LoRA weight; empty where none were asked for.
    """

    hidden: Tensor
    log_probs: Tensor
    gradients: list[Tensor]

    def errors(self, exact: Outcome) -> dict[str, float]:
        """Distances to ``exact``: relative (Euclidean norms), and the largest ones."""
        found = {}
        for name, ours, theirs in (
            ("hidden", self.hidden, exact.hidden),
            ("log_probs", self.log_probs, exact.log_probs),
        ):
            found[f"{name}_relative"] = _relative([ours], [theirs])
            found[f"{name}_largest"] = float((ours - theirs).abs().max())
        if self.gradients:
            pairs = list(zip(self.gradients, exact.gradients, strict=True))
            found["gradients_relative"] = _relative(self.gradients, exact.gradients)
            found["gradients_largest"] = max(_relative([a], [b]) for a, b in pairs)
        return found


def _relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """|a - b| / |b| over all tensors together."""
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(ours, theirs, strict=True))
    return (apart / sum(float(b.double().square().sum()) for b in theirs)) ** 0.5


def padded(items: list[Encoded], device: torch.device, *, left: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Rows of one length with mask and positions, as ``forward`` takes them; and where each prompt ends (B,)."""
    longest = max(len(item.ids) for item in items)
    ids = torch.zeros(len(items), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(items):
        place = slice(longest - len(item.ids), None) if left else slice(0, len(item.ids))
        ids[row, place] = torch.tensor(item.ids)
        mask[row, place] = 1
    ends = torch.tensor([longest - 1 if left else len(item.ids) - 1 for item in items])
    rows = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    return {name: x.to(device) for name, x in rows.items()}, ends.to(device)


def product_outcome(scorer: Scorer, items: list[Encoded], precision: Precision, *, gradients: bool) -> Outcome:
    """By zhsenti."""
    network: Any = unwrap(scorer.network)
    device = network.lm_head.weight.device
    trie = scorer.method.collate(items)["trie"].to(device)
    with torch.set_grad_enabled(gradients), torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
        hidden_BD = decode(network.model, trie)
        log_probs_BC = scorer.method.log_probs(network, hidden_BD)
    return _outcome(scorer, items, hidden_BD, log_probs_BC, gradients)


def reference_outcome(
    scorer: Scorer, items: list[Encoded], precision: Precision, *, gradients: bool, left: bool = False
) -> Outcome:
    """By transformers and peft: their forward pass on padded rows, the whole vocabulary's logits, autograd."""
    network: Any = unwrap(scorer.network)
    rows, ends = padded(items, network.lm_head.weight.device, left=left)
    device = ends.device
    words = torch.tensor([ids[0] for ids in scorer.method.word_ids], device=device)
    with torch.set_grad_enabled(gradients), torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
        states_BTD = network.model(**rows, use_cache=False).last_hidden_state
        hidden_BD = states_BTD[torch.arange(len(items), device=device), ends]
        logits_BV = network.lm_head(hidden_BD)
    log_probs_BC = F.log_softmax(logits_BV[:, words].float(), dim=-1)
    return _outcome(scorer, items, hidden_BD, log_probs_BC, gradients)


def _outcome(scorer: Scorer, items: list[Encoded], hidden_BD: Tensor, log_probs_BC: Tensor, gradients: bool) -> Outcome:
    found: list[Tensor] = []
    if gradients:
        labels = torch.tensor([item.label for item in items], device=log_probs_BC.device)
        scorer.zero_grad()
        (scorer.method.loss(log_probs_BC, labels) / len(items)).backward()
        found = [p.grad.detach().float().clone() for _, p in trained(scorer) if p.grad is not None]
        scorer.zero_grad()
    return Outcome(hidden_BD.detach().float(), log_probs_BC.detach().float(), found)


def loss_curve(
    scorer: Scorer, items: list[Encoded], updates: list[list[int]], precision: Precision, system: str
) -> list[float]:
    """Losses of every update from the weights that the network has; they are put back at the end.

    Args:
        scorer: Method and network.
        items: All reviews.
        updates: Indices of each update's reviews.
        precision: What is computed in.
        system: ``zhsenti``; ``reference``, the Trainer with PEFT in batches of 8, padded to the longest; or ``whole``,
            the same with an update in one batch: equal mathematics in other shapes, so its distance is rounding.
    """
    put_back, watch = keep_weights(scorer), Watch()
    if system == "zhsenti":
        sentiment_trainer(scorer, items, updates, precision, callbacks=[watch]).train()
    else:
        size = len(updates[0]) if system == "whole" else BATCH
        textbook_trainer(scorer, items, updates, precision, watch, size=size, over_words=True).train()
    put_back()
    return watch.losses


def textbook_trainer(
    scorer: Scorer,
    items: list[Encoded],
    updates: list[list[int]],
    precision: Precision,
    watch: Watch,
    *,
    size: int,
    width: int | None = None,
    over_words: bool = False,
) -> InOrder:
    """The usual recipe over the same updates.

    Args:
        scorer: Its network is trained; its method names the label words.
        items: All reviews.
        updates: Indices of each update's reviews.
        precision: What is computed in.
        watch: Told of losses and time.
        size: Rows of a batch; an update is as many of them as it needs.
        width: What rows are padded to; None for the longest of each batch.
        over_words: Whether the loss is over the label words alone, as the product's, or over the vocabulary.
    """
    words = [ids[0] for ids in scorer.method.word_ids]
    rows = [(items[i].ids, words[items[i].label or 0], 0) for update in updates for i in update]
    accumulation = -(-len(updates[0]) // size)
    logging = 1 if over_words else len(updates)
    return InOrder(
        model=scorer.network,
        args=training_arguments(len(updates), size, accumulation, precision, logging_steps=logging),
        train_dataset=rows,  # type: ignore[arg-type]
        size=size,
        width=width,
        words=words if over_words else None,
        callbacks=[watch],
    )
