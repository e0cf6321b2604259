"""What a method is, and what all methods share: the prompt's ids, the batch, the loss.

Shapes: B reviews in a batch, C classes, P hidden states read, D hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.errors import ConfigError
from zhsenti.labels import SentimentTask
from zhsenti.models.backbone import LoraOptions, Precision, Tokenizer, add_lora, keep_freed_memory, load_lora, unwrap
from zhsenti.models.decoder import decode, is_sharded
from zhsenti.models.light import load_light
from zhsenti.models.trie import TokenTrie, build_trie

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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

    def __init__(self, task: SentimentTask, tokenizer: Tokenizer) -> None:
        self.task, self.tokenizer = task, tokenizer
        before, after = task.template.split("{text}")
        self._before = [self._segments(part) for part in before.split("{aspect}")]
        self._after = [self._segments(part) for part in after.split("{aspect}")]

    def _segments(self, literal: str) -> list[int]:
        return self.tokenizer.encode(literal) if literal else []

    def _slot(self, text: str) -> list[int]:
        # Lone surrogates cannot be UTF-8; they become "?" here instead of an exception inside the tokenizer.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return self.tokenizer.encode(clean, split_special_tokens=True)

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


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices, longest first (so that memory trouble and a low ETA show at once), cut into forward passes.

    A pass holds at most ``budget`` tokens; a row that is longer by itself is a pass of its own.
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        tokens += lengths[index]
        if batches and tokens <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
            tokens = lengths[index]
    return batches


class Method(ABC):
    """One way to turn a prompt into class log-probabilities. A new one is a file, a registry line and a YAML.

    name  registry key, manifest value; ``head`` names a module that is trained whole and saved with the adapter;
    ``continuations`` are token ids to read on after the prompt, each on its own (one empty one: read the prompt alone).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    head: ClassVar[str | None] = None

    def __init__(self, task: SentimentTask, tokenizer: Tokenizer) -> None:
        self.task, self.tokenizer = task, tokenizer
        self.encode = PromptEncoder(task, tokenizer)
        self.continuations: list[list[int]] = [[]]

    def collate(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """``labels`` (B,), when every row has one, and the ``trie`` of all prompts with their continuations.

        Read are a prompt's last token and the tokens of its continuation:

        prompt p1 p2 p3, continuations [], [w1]     reads  p3  p3 w1
        """
        rows, reads = [], []
        for item in batch:
            for continuation in self.continuations:
                rows.append(item.ids + continuation)
                reads.append(range(len(item.ids) - 1, len(rows[-1])))
        labels = [item.label for item in batch if item.label is not None]
        # Labels come first: the Trainer takes a batch's size from its first entry.
        known = {"labels": torch.tensor(labels)} if len(labels) == len(batch) else {}
        return {**known, "trie": build_trie(rows, reads)}

    def notices(self) -> list[str]:
        """Chinese lines the user should read before this method runs (a slow path, say)."""
        return []

    @abstractmethod
    def load(self, folder: Path, precision: Precision, *, use_qlora: bool = False) -> PreTrainedModel:
        """The frozen backbone with this method's output layer."""

    @abstractmethod
    def log_probs(self, network: nn.Module, hidden_PD: Tensor) -> Tensor:
        """Class log-probabilities, float32 (B, C) in label order, from the final hidden states ``collate`` asks for.

        network is the transformers model; rows sum to one in probability.
        """

    def build(
        self,
        folder: Path,
        precision: Precision,
        *,
        lora: LoraOptions | None = None,
        adapter: Path | None = None,
        use_qlora: bool = False,
        merge: bool = False,
    ) -> Scorer:
        """Backbone plus a fresh LoRA (``lora``), a saved one (``adapter``), or neither (zero-shot).

        ``merge`` folds the saved one into the backbone's weights. Raises ModelError when the parts do not fit.
        """
        if lora is None and not use_qlora and not merge:
            light = load_light(folder, precision, adapter=adapter, classes=len(self.task.labels) if self.head else 0)
            if light is not None:
                return Scorer(self, light)
        network: nn.Module = self.load(folder, precision, use_qlora=use_qlora)
        if lora is not None:
            network = add_lora(network, lora, head=self.head)  # type: ignore[arg-type]
        elif adapter is not None:
            network = load_lora(network, adapter)  # type: ignore[arg-type]
            network = network.merge_and_unload() if merge else network
        return Scorer(self, network)


class Scorer(nn.Module):
    """A method and its network as one module, so that Trainer, DDP and autocast see an ordinary ``forward``."""

    def __init__(self, method: Method, network: nn.Module) -> None:
        super().__init__()
        self.method, self.network, self.checkpointing = method, network, False
        keep_freed_memory()  # only now: loading frees pieces too small for what comes

    def shard_base(self, processes: int) -> None:
        """Spread the frozen weights of every layer over the processes of the group; each is gathered when it computes.

        FSDP2 (torch.distributed.fsdp.fully_shard; Zhao et al. 2023, arXiv:2304.11277). Trained weights, embedding and
        output layer stay whole everywhere.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        decoder: Any = unwrap(self.network).model
        mesh = init_device_mesh(next(decoder.parameters()).device.type, (processes,))
        whole = {p for p in self.network.parameters() if p.requires_grad} | set(decoder.embed_tokens.parameters())
        for layer in [*decoder.layers, decoder]:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=whole)

    @property
    def is_sharded(self) -> bool:
        return is_sharded(unwrap(self.network).model)

    def enable_checkpointing(self) -> None:
        """Keep only each layer's input for the backward pass: less memory, a third more time."""
        self.checkpointing = True
        unwrap(self.network).activation_checkpointing_enable({"use_reentrant": False})  # for decoders `decode` hands on

    def forward(
        self, trie: TokenTrie, labels: Tensor | None = None, num_items_in_batch: Tensor | int | None = None
    ) -> dict[str, Tensor]:
        """``logits``: log-probabilities (B, C); with labels also ``loss``, the mean negative log-likelihood.

        Under gradient accumulation the mean is over all reviews of the update (``num_items_in_batch``), so an update
        does not depend on how its reviews were cut into micro-batches.
        """
        model: Any = unwrap(self.network)
        hidden_PD = decode(model.model, trie, checkpointing=self.checkpointing)
        with torch.autocast(hidden_PD.device.type, enabled=False):
            log_probs_BC = self.method.log_probs(model, hidden_PD)
        if labels is None:
            return {"logits": log_probs_BC}
        total = F.nll_loss(log_probs_BC, labels, reduction="sum")
        return {
            "loss": total / (num_items_in_batch if num_items_in_batch is not None else len(labels)),
            "logits": log_probs_BC,
        }
