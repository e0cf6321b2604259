"""What a method is, and what all methods share: the batch, the network around it, the loss.

Shapes: B reviews in a batch, C classes, P hidden states read, D hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.methods.prompt import Encoded, PromptEncoder
from zhsenti.models.adapter_check import SavedAdapter
from zhsenti.models.autograd import leave_cudnn_out
from zhsenti.models.backbone import (
    LoraOptions,
    Tokenizer,
    add_lora,
    keep_freed_memory,
    load_backbone,
    load_lora,
    unwrap,
)
from zhsenti.models.decoder import decode, is_sharded
from zhsenti.models.failures import naming_load_failures
from zhsenti.models.precision import Precision, pick_device
from zhsenti.models.scoring_model import load_scoring_model
from zhsenti.models.trie import SLACK, TokenTrie, build_trie
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Method(ABC):
    """One way to turn a prompt into class log-probabilities. A new one is a file, a registry line and a YAML.

    Everything that is particular to a method stands here or in its subclass; no other room asks which one it has.

    Attributes:
        name: Registry key; the manifest of a saved folder holds it.
        title: What users read (Chinese).
        english: The same for pictures on machines without a Chinese font.
        auto_class: The transformers class that opens the base with this method's output layer.
        peft_task: peft's word for that class.
        head: Name of a module that is trained whole and saved with the adapter; None where there is none.
        has_lm_head: Whether the scores are the language-model head's, so that a program that only continues text can
            give them.
        works_untrained: Whether a bare base scores with this method (zero-shot).
        word_ids: Token ids of the label words, in label order; empty where no words are read.
        continuations: Token ids to read on after the prompt, each on its own (one empty one: read the prompt alone).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    english: ClassVar[str]
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    peft_task: ClassVar[str] = "CAUSAL_LM"
    head: ClassVar[str | None] = None
    has_lm_head: ClassVar[bool] = False
    works_untrained: ClassVar[bool] = False

    def __init__(self, task: SentimentTask, tokenizer: Tokenizer) -> None:
        self.task, self.tokenizer = task, tokenizer
        self.encode = PromptEncoder(task, tokenizer)
        self.word_ids: list[list[int]] = []
        self.continuations: list[list[int]] = [[]]

    # ── a batch and its scores ────────────────────────────────────────────────────────────────────────────────────

    def collate(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """A batch as ``Scorer.forward`` takes it.

        Returns:
            ``labels`` (B,), when every row has one, and the ``trie`` of all prompts with their continuations. Read
            are a prompt's last token and the tokens of its continuation::

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
        return {**known, "trie": build_trie(rows, reads, SLACK[pick_device().type])}

    def score(self, network: Any, trie: TokenTrie, *, checkpointing: bool = False) -> Tensor:
        """Class log-probabilities, float32 (B, C) in label order, of what ``collate`` made.

        Args:
            network: The transformers model, or the scoring model, with this method's output layer.
            trie: The batch.
            checkpointing: Keep only each layer's input for the backward pass.
        """
        hidden_PD = decode(network.model, trie, checkpointing=checkpointing)
        with torch.autocast(hidden_PD.device.type, enabled=False):
            return self.log_probs(network, hidden_PD)

    @abstractmethod
    def log_probs(self, network: Any, hidden_PD: Tensor) -> Tensor:
        """Class log-probabilities, float32 (B, C) in label order, from the final hidden states ``collate`` asks for.

        Rows sum to one in probability.
        """

    def loss(self, log_probs_BC: Tensor, labels_B: Tensor) -> Tensor:
        """What training makes small, summed over the reviews; here the negative log-likelihood.

        A sum, because an update is cut into passes: the caller divides by the reviews of the whole update.
        """
        return F.nll_loss(log_probs_BC, labels_B, reduction="sum")

    def notices(self) -> list[str]:
        """Chinese lines the user should read before this method runs (a slow path, say)."""
        return []

    # ── the network ───────────────────────────────────────────────────────────────────────────────────────────────

    def make_head(self, hidden_size: int) -> nn.Module:
        """A fresh module for ``head``: here a float32 linear layer (C, D) of zeros, so that all classes start equal.

        Hidden states after Qwen's last norm are long (hundreds), so the usual N(0, 0.02) head would start with logits
        of several units and a loss far above log C. It draws no random number, which would change LoRA's.
        """
        layer = nn.Linear(hidden_size, len(self.task.labels), bias=False, device="meta").to_empty(device="cpu")
        nn.init.zeros_(layer.weight)
        return layer

    def load(
        self, folder: Path, precision: Precision, *, use_qlora: bool = False, device: torch.device | None = None
    ) -> PreTrainedModel:
        """The frozen backbone in ``folder`` with this method's output layer.

        Args:
            folder: The base.
            precision: What it computes in.
            use_qlora: Hold it in 4 bits.
            device: Where it is held; the machine's own device where nothing is said.

        Raises:
            ModelError: The folder holds no base that can be read.
            RuntimeError: Memory ran out, or the GPU is lost.
        """
        options: dict[str, Any] = {"use_qlora": use_qlora, "head": self.head, "device": device}
        if "Classification" in self.auto_class:
            options["num_labels"] = len(self.task.labels)
        model = load_backbone(folder, self.auto_class, precision, **options)
        if self.head:
            head = self.make_head(model.config.hidden_size).requires_grad_(False)
            setattr(model, self.head, head.to(next(model.parameters()).device))
        return model

    def build(
        self,
        folder: Path,
        precision: Precision,
        *,
        lora: LoraOptions | None = None,
        adapter: SavedAdapter | None = None,
        use_qlora: bool = False,
        merge: bool = False,
    ) -> Scorer:
        """Backbone plus a fresh LoRA (``lora``), a saved one (``adapter``), or neither (zero-shot).

        Args:
            folder: The base.
            precision: What it computes in.
            lora: Sizes of a fresh LoRA, to be trained.
            adapter: A saved one, already checked by itself.
            use_qlora: Hold the base in 4 bits.
            merge: Fold the saved one into the backbone's weights.

        Raises:
            ModelError: The parts do not fit each other, or (as its subclasses) memory is too short, or the GPU is lost.
        """
        with naming_load_failures(_how_to_save_memory(precision, training=lora is not None, use_qlora=use_qlora)):
            if lora is None and not use_qlora and not merge:
                head = (self.head, self.make_head) if self.head else None
                light = load_scoring_model(folder, precision, adapter=adapter, head=head)
                if light is not None:
                    return Scorer(self, light)
            network: Any = self.load(folder, precision, use_qlora=use_qlora)
            if lora is not None:
                network = add_lora(network, lora, head=self.head, task_type=self.peft_task)
            elif adapter is not None:
                network = load_lora(network, adapter, head=self.head)
                network = network.merge_and_unload() if merge else network
            return Scorer(self, network)

    # ── what an export needs ──────────────────────────────────────────────────────────────────────────────────────

    def output_rows(self, network: Any) -> Tensor | None:
        """Rows (C, D) whose products with the prompt's last hidden state are the logits; None where more is read."""
        return None

    def export(self, network: Any) -> PreTrainedModel:
        """An ordinary transformers model that says what ``network`` (merged, with this method's head) says.

        What is saved is opened by everyone with the class that its config names; a head that transformers has no
        place for has to be put where it has one.
        """
        return network


def _how_to_save_memory(precision: Precision, *, training: bool, use_qlora: bool) -> str:
    """What to do where a model does not fit (Chinese)."""
    ways = ["关掉别的占内存、显存的程序"]
    if precision.dtype.itemsize == 4:
        ways.append("用 --precision bf16（省一半）")
    if training:
        ways += [] if use_qlora else ["加 --use_qlora（4 比特基座）"]
        ways.append("换小一号的基座（--model_name）")
    else:
        ways.append("换一个在小一号的基座上训练的适配器")
    return "；".join(ways) + "。"


class Scorer(nn.Module):
    """A method and its network as one module, so that Trainer, DDP and autocast see an ordinary ``forward``."""

    def __init__(self, method: Method, network: nn.Module) -> None:
        super().__init__()
        self.method, self.network, self.checkpointing = method, network, False
        keep_freed_memory()  # only now: loading frees pieces too small for what comes
        leave_cudnn_out()

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
        """Scores of a batch and, with labels, its loss.

        Args:
            trie: What ``Method.collate`` made.
            labels: Class indices (B,).
            num_items_in_batch: Reviews of the whole update under gradient accumulation, so that an update does not
                depend on how its reviews were cut into passes; B where it is not given.

        Returns:
            ``logits``: log-probabilities (B, C); with labels also ``loss``, the method's loss a review.
        """
        log_probs_BC = self.method.score(unwrap(self.network), trie, checkpointing=self.checkpointing)
        if labels is None:
            return {"logits": log_probs_BC}
        total = self.method.loss(log_probs_BC, labels)
        return {
            "loss": total / (num_items_in_batch if num_items_in_batch is not None else len(labels)),
            "logits": log_probs_BC,
        }
