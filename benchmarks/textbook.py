"""The usual recipe, to be measured against: the transformers Trainer on padded rows, scoring one text at a time.

And the product's own Trainer over given updates, so that both see the same reviews in the same order.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.precision import Precision, pick_device
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.plan import MICRO_TOKENS

SEED = 42


class Watch(TrainerCallback):
    """Losses of every update, and the seconds from the first batch to the last log."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # what was asked for is done only then
        self.seconds = time.perf_counter() - self.start

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


class InOrder(Trainer):
    """The textbook: rows in order, ``size`` a batch; ``width`` pads to it; ``words`` takes the loss over them alone."""

    def __init__(self, *, size: int, width: int | None, words: list[int] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.width, self.words = size, width, words
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_size=self.size, collate_fn=self.pad)  # type: ignore[arg-type]
        return self.accelerator.prepare(loader)

    def pad(self, rows: list[tuple[list[int], int, int]]) -> dict[str, torch.Tensor]:
        """Prompt + label word, right-padded with a mask; only the label word has a target."""
        width = self.width or max(len(ids) + 1 for ids, _, _ in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (prompt, word, _) in enumerate(rows):
            ids[row, : len(prompt) + 1] = torch.tensor([*prompt, word])
            mask[row, : len(prompt) + 1] = 1
            labels[row, len(prompt)] = word
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.words is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")
        row, place = (labels != -100).nonzero(as_tuple=True)
        logits = model(**inputs).logits[row, place - 1][:, self.words].float()
        targets = torch.tensor([self.words.index(int(word)) for word in labels[row, place]], device=logits.device)
        return F.cross_entropy(logits, targets, reduction="sum") / num_items_in_batch


def training_arguments(
    steps: int, size: int, accumulation: int, precision: Precision, **more: Any
) -> TrainingArguments:
    """The Trainer's arguments for ``steps`` updates; ``more`` goes before what stands here."""
    usual: dict[str, Any] = {
        "output_dir": tempfile.gettempdir(),
        "max_steps": steps,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": precision.name == "bf16",
        "fp16": precision.name == "fp16",
        "use_cpu": pick_device().type == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": SEED,
    }
    return TrainingArguments(**{**usual, **more})


class Given(list):  # type: ignore[type-arg]
    """A ready list of updates where the Trainer expects the sampler."""

    def set_epoch(self, epoch: int) -> None:
        pass


def sentiment_trainer(
    scorer: Scorer, items: list[Encoded], updates: list[list[int]], precision: Precision, **kwargs: Any
) -> SentimentTrainer:
    """The product's Trainer for given updates.

    Args:
        scorer: Method and network.
        items: All reviews.
        updates: Indices of the reviews of each update.
        precision: What it computes in.
        **kwargs: The Trainer's own; by default micro-batches are what they are where memory is no concern.
    """
    usual: dict[str, Any] = {
        "args": training_arguments(len(updates), max(map(len, updates)), 1, precision),
        "micro_tokens": MICRO_TOKENS[pick_device().type][0],
        "sampler": Given(updates),
        "identity": {},
        "keep": 1,
    }
    return SentimentTrainer(model=scorer, train_dataset=items, **{**usual, **kwargs})


@torch.inference_mode()
def textbook(network: Any, method: Any, texts: list[str], width: int = 0) -> np.ndarray:
    """Class log-probabilities (N, C) by one full forward pass for each text and label word, padded to ``width``."""
    device = pick_device()
    scores = []
    for text in texts:
        prompt = method.encode(text).ids
        row = []
        for word in method.word_ids:
            ids = prompt + word
            padding = max(0, width - len(ids))
            mask = [1] * len(ids) + [0] * padding
            logits = (
                network(
                    input_ids=torch.tensor([ids + [0] * padding], device=device),
                    attention_mask=torch.tensor([mask], device=device),
                )
                .logits[0]
                .float()
                .log_softmax(-1)
            )
            row.append(sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(word)))
        scores.append(row)
    exact = np.array(scores)
    return exact - np.logaddexp.reduce(exact, axis=1, keepdims=True)
