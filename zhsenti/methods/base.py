"""What a method is, and what all methods share: the prompt's ids, the batch, the loss.

Shapes: B reviews in a batch, T tokens, C classes, D hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.errors import ConfigError
from zhsenti.labels import SentimentTask
from zhsenti.models.backbone import LoraOptions, Precision, add_lora, load_lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One prompt. ``tokens`` is its length before the cut, so ``truncated`` means tokens > len(ids)."""

    ids: list[int]
    tokens: int
    label: int | None = None

    @property
    def truncated(self) -> bool:
        return self.tokens > len(self.ids)


class PromptEncoder:
    """Prompt ids by segment: literal + text + literal, so that nothing in a review can act as prompt or control token.

    Literals come from the task and keep their special tokens; slots (text, aspect) are encoded with special tokens
    split. Only the text slot is cut: head and tail are kept, the literals never shortened.
    """

    def __init__(self, task: SentimentTask, tokenizer: PreTrainedTokenizerBase) -> None:
        self.task, self.tokenizer = task, tokenizer
        before, after = task.template.split("{text}")
        self._before = [self._segments(part) for part in before.split("{aspect}")]
        self._after = [self._segments(part) for part in after.split("{aspect}")]

    def _segments(self, literal: str) -> list[int]:
        return self.tokenizer.encode(literal, add_special_tokens=False) if literal else []

    def _slot(self, text: str) -> list[int]:
        # Lone surrogates cannot be UTF-8; they become "?" here instead of an exception inside the tokenizer.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        # verbose=False: it would warn of texts longer than the model reads, which are cut right after.
        return self.tokenizer.encode(clean, add_special_tokens=False, split_special_tokens=True, verbose=False)

    def __call__(self, text: str, label: int | None = None, aspect: str | None = None) -> Encoded:
        """Ids of the whole prompt. Raises ConfigError when max_length leaves no room for text, or aspect is missing."""
        if self.task.has_aspect and aspect is None:
            raise ConfigError(
                "任务模板含 {aspect}，但没有给方面", todo="给出方面：命令行用 --aspect，文件用 aspect 列。"
            )
        slot = self._slot(aspect) if self.task.has_aspect and aspect is not None else []
        before, after = _join(self._before, slot), _join(self._after, slot)
        body = self._slot(text)
        room = self.task.max_length - len(before) - len(after)
        if room < 8:
            raise ConfigError(
                f"max_length {self.task.max_length} 太小：模板已占 {len(before) + len(after)} 个 token",
                todo=f"把 --max_length 提到 {len(before) + len(after) + 8} 以上。",
            )
        total = len(before) + len(body) + len(after)
        if len(body) > room:
            head = round(room * self.task.head_share)
            body = body[:head] + body[len(body) - (room - head) :]
        return Encoded([*before, *body, *after], total, label)


def _join(parts: list[list[int]], slot: list[int]) -> list[int]:
    joined = list(parts[0])
    for part in parts[1:]:
        joined += slot + part
    return joined


def collate(batch: Sequence[Encoded], pad_id: int = 0) -> dict[str, Tensor]:
    """Right-padded ``input_ids`` (B, T), ``lengths`` (B,) and, when every row has one, ``labels`` (B,).

    There is no attention mask: under causal attention a real token never sees the padding to its right, and only
    positions before the padding are read, so any pad id gives the same scores.
    """
    width = max(len(item.ids) for item in batch)
    tensors = {
        "input_ids": torch.tensor([item.ids + [pad_id] * (width - len(item.ids)) for item in batch]),
        "lengths": torch.tensor([len(item.ids) for item in batch]),
    }
    labels = [item.label for item in batch if item.label is not None]
    if len(labels) == len(batch):
        tensors["labels"] = torch.tensor(labels)
    return tensors


class Method(ABC):
    """One way to turn a prompt into class log-probabilities. A new one is a file, a registry line and a YAML.

    name  registry key, manifest value; ``head`` names a module that is trained whole and saved with the adapter.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    head: ClassVar[str | None] = None

    def __init__(self, task: SentimentTask, tokenizer: PreTrainedTokenizerBase) -> None:
        self.task, self.tokenizer = task, tokenizer
        self.encode = PromptEncoder(task, tokenizer)

    def notices(self) -> list[str]:
        """Chinese lines the user should read before this method runs (a slow path, say)."""
        return []

    @abstractmethod
    def load(self, folder: Path, precision: Precision, *, use_qlora: bool = False) -> PreTrainedModel:
        """The frozen backbone with this method's output layer."""

    @abstractmethod
    def log_probs(self, network: nn.Module, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Class log-probabilities, float32 (B, C) in label order; rows sum to one in probability."""

    def build(
        self,
        folder: Path,
        precision: Precision,
        *,
        lora: LoraOptions | None = None,
        adapter: Path | None = None,
        use_qlora: bool = False,
    ) -> Scorer:
        """Backbone plus a fresh LoRA (``lora``), a saved one (``adapter``), or neither (zero-shot)."""
        network: nn.Module = self.load(folder, precision, use_qlora=use_qlora)
        if lora is not None:
            network = add_lora(network, lora, head=self.head)  # type: ignore[arg-type]
        elif adapter is not None:
            network = load_lora(network, adapter)  # type: ignore[arg-type]
        return Scorer(self, network)


class Scorer(nn.Module):
    """A method and its network as one module, so that Trainer, DDP and autocast see an ordinary ``forward``."""

    def __init__(self, method: Method, network: nn.Module) -> None:
        super().__init__()
        self.method, self.network = method, network

    def forward(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """``logits``: log-probabilities (B, C); with labels also ``loss``, the mean negative log-likelihood.

        Under gradient accumulation the mean is over all reviews of the update (``num_items_in_batch``), so an update
        does not depend on how its reviews were cut into micro-batches.
        """
        log_probs_BC = self.method.log_probs(self.network, input_ids, lengths)
        if labels is None:
            return {"logits": log_probs_BC}
        total = F.nll_loss(log_probs_BC, labels, reduction="sum")
        return {
            "loss": total / (num_items_in_batch if num_items_in_batch is not None else len(labels)),
            "logits": log_probs_BC,
        }


def last_hidden(decoder: nn.Module, input_ids: Tensor, lengths: Tensor) -> Tensor:
    """Final hidden state of each row's last real token, (B, D).

    tokens   p1 p2 p3 __        lengths = 3
    hidden   h1 h2 h3 h4              ^ h3 predicts what follows p3; h4 is padding and is never read
    """
    hidden_BTD = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden_BTD[torch.arange(len(lengths), device=hidden_BTD.device), lengths - 1]
