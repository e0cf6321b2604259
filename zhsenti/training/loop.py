"""The transformers Trainer with our batches and our evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from zhsenti.artifact import live_adapter
from zhsenti.core.errors import TrainingError
from zhsenti.methods.prompt import Encoded, token_batches
from zhsenti.models.failures import free_cached_memory, is_out_of_memory
from zhsenti.models.trie import TokenTrie
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.checkpoints import Identity, last_whole
from zhsenti.training.processes import Processes
from zhsenti.training.saving import SavingTrainer

MAX_SHOWN = 32  # rows that are named in a message
Pass = tuple[list[int], bool]  # indices of reviews that go forward together, and whether their result counts


class SentimentTrainer(SavingTrainer):
    """Trains a ``Scorer``; what differs from the Trainer is which batches, what a checkpoint holds, and what may fail.

    The Trainer's batch is a whole update; ``training_step`` cuts it into micro-batches of at most ``micro_tokens``, so
    memory is bounded by tokens and does not decide what an update is. Several processes share each update's reviews.

    Args:
        sampler: Updates, as lists of indices.
        micro_tokens: Tokens of a forward pass, at most.
        identity: Of the run.
        keep: How many checkpoints stay.
        rows: Of each training item its data row in the source, to name a batch that fails.
        processes: Who trains together; alone where not given.
        **kwargs: The Trainer's own, by name.
    """

    train_dataset: list[Encoded]
    eval_dataset: list[Encoded]

    def __init__(
        self,
        *,
        sampler: LengthBucketSampler,
        micro_tokens: int,
        identity: Identity,
        keep: int,
        rows: list[int] | None = None,
        processes: Processes | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler, self.micro_tokens, self.identity, self.keep = sampler, micro_tokens, identity, keep
        self.rows, self.processes = rows or [], processes or Processes()
        self.best = {}
        self.folder = Path(kwargs["args"].output_dir)
        self._started = time.monotonic()
        self._last_update: list[int] = []  # as indices
        self._loss = torch.zeros(())  # of that update
        self.collate = self.model.method.collate
        self.model_accepts_loss_kwargs = True  # the Scorer takes num_items_in_batch
        self.remove_callback(PrinterCallback)
        # Gradients are summed here, once an update, so that a process may take fewer reviews, or its passes again,
        # while the others wait; DistributedDataParallel around the model would only be in the way.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def get_train_dataloader(self) -> DataLoader:
        """Batches of indices, each one update."""

        def update(indices: list[int]) -> dict[str, Tensor | list[int]]:
            # The Trainer counts an update's reviews by the labels of all processes together.
            labels = [self.train_dataset[i].label for i in self.processes.share(indices)]
            return {"labels": torch.tensor(labels), "indices": indices}

        everything: Any = range(len(self.train_dataset))
        return _Updates(everything, batch_sampler=self.sampler, collate_fn=update)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Gradients of one update, summed over micro-batches and processes; returns the update's mean loss.

        Out of memory, the micro-batches are halved and the update is computed again from its start.

        Raises:
            TrainingError: One review alone does not fit.
        """
        items = [self.train_dataset[i] for i in inputs["indices"]]
        loss = self._within_memory(items, lambda: self._accumulate(model, items, num_items_in_batch))
        if self.processes.count > 1:
            self._share_gradients(loss)
        self._last_update, self._loss = inputs["indices"], loss
        return loss

    def _share_gradients(self, loss: Tensor) -> None:
        """Sum ``loss`` and all gradients over the processes."""
        gradients = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # an update with fewer reviews than processes
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.processes.sum([loss, *gradients])
        for summed in (loss, *gradients):
            summed /= self.processes.count  # as the Trainer has multiplied by it

    def _within_memory(self, items: list[Encoded], work: Callable[[], Tensor]) -> Tensor:
        """``work`` over ``items``, taken again from its start with smaller passes while memory does not suffice."""
        while True:
            try:
                result = work()
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.model.is_sharded:  # the others wait in the middle of this pass
                    raise
            self._spend_less_memory(items)  # not inside except: the error holds the memory of the pass that failed
        smallest = self.processes.least(self.micro_tokens)
        if smallest < self.micro_tokens:
            self.micro_tokens = smallest
            self.processes.say(f"另一个进程内存不足：每次前向减为至多 {smallest} token，有效批量不变，继续训练。")
        return result

    def _accumulate(self, model: nn.Module, items: list[Encoded], num_items_in_batch: Tensor | int | None) -> Tensor:
        model.zero_grad()  # what a pass that failed has left
        loss = torch.zeros((), device=self.args.device)
        for batch, counts in self._passes(items):
            divisor = num_items_in_batch if counts else cast(int, math.inf)
            loss += super().training_step(model, self.collate([items[i] for i in batch]), divisor)
        return loss

    def _passes(self, items: list[Encoded]) -> list[Pass]:
        """This process's forward passes over its share of ``items``.

        With a sharded base every process has to make the same number of passes: they are cut first and shared then,
        and a process that is left without a review in one computes another's, whose result does not count.
        """
        lengths = [len(item.ids) for item in items]
        if self.model.is_sharded:
            shared = token_batches(lengths, self.micro_tokens * self.processes.count)
            return [(self.processes.share(batch) or batch[:1], bool(self.processes.share(batch))) for batch in shared]
        mine = self.processes.share(sorted(range(len(items)), key=lambda i: -lengths[i]))
        cut = token_batches([lengths[i] for i in mine], self.micro_tokens)
        return [([mine[i] for i in batch], True) for batch in cut]

    def _spend_less_memory(self, items: list[Encoded]) -> None:
        """Halve the micro-batches; when each is one review already, recompute activations; then give up."""
        free_cached_memory()
        passes = [[len(items[i].ids) for i in batch] for batch, _ in self._passes(items)]
        if any(len(lengths) > 1 for lengths in passes):
            self.micro_tokens = max(min(self.micro_tokens, max(map(sum, passes))) // 2, 1)
            self.processes.say(f"内存不足：每次前向减为至多 {self.micro_tokens} token，有效批量不变，继续训练。")
        elif not self.model.checkpointing:
            self.model.enable_checkpointing()
            self.processes.say("内存不足：改为重算激活（约慢三分之一），结果不变，继续训练。")
        else:
            raise TrainingError(
                f"内存不足：一条 {max(map(sum, passes))} token 的评论也放不下",
                found=last_whole(self.folder),
                todo="腾出内存，同一条命令加 --resume_from_checkpoint auto；或减小 --max_length、换小一号的基座重来。",
            )

    def _prepare_input(self, data: Any) -> Any:
        if isinstance(data, TokenTrie):
            return data.to(self.args.device)
        if isinstance(data, Tensor) and self.args.device.type == "cuda":  # a copy of other memory would be waited for
            return data.pin_memory().to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    # ── numbers that are none ─────────────────────────────────────────────────────────────────────────────────────

    def _check_finite(self, value: Tensor | float, what: str) -> None:
        """Stop where ``value`` is not finite.

        Raises:
            TrainingError: It is not; the message names the last update's reviews.
        """
        if math.isfinite(float(value)):
            return
        rows = sorted(self.rows[i] for i in self._last_update) if self.rows else self._last_update
        shown = "、".join(map(str, rows[:MAX_SHOWN])) + (f" 等 {len(rows)} 条" if len(rows) > MAX_SHOWN else "")
        raise TrainingError(
            f"{what}不是有限的数（{float(value)}），训练已停，没有存下这样的权重",
            expected="有限的数",
            found=f"最后一批是训练数据的第 {shown} 行",
            todo=f"减小 --learning_rate，或用 --precision fp32，并检查这些行。{last_whole(self.folder)}。",
        )

    def check_weights(self) -> None:
        """Look at every trained weight.

        Raises:
            TrainingError: One is not finite.
        """
        for name, tensor in live_adapter(self.model.network).items():
            self._check_finite(tensor.abs().max(), f"第 {self.state.global_step} 步之后的权重 {name} ")

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float:
        """The gradients' norm, looked at together with the update's loss before any weight moves.

        Both in one copy: each copy from a GPU waits for all that it has to do.

        Raises:
            TrainingError: One of them is not finite.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        numbers = torch.stack([self._loss, torch.as_tensor(norm, device=self._loss.device)]).tolist()
        self._check_finite(numbers[0], f"第 {self.state.global_step + 1} 步的损失")
        if self.accelerator.scaler is None:  # fp16's scaler expects infinite gradients and skips such steps itself
            self._check_finite(numbers[1], f"第 {self.state.global_step + 1} 步的梯度范数")
        return norm

    # ── evaluation ────────────────────────────────────────────────────────────────────────────────────────────────

    def get_eval_dataloader(self, eval_dataset: object = None) -> Any:
        """None: ``evaluation_loop`` cuts the dev rows into passes itself, by the memory that there is then."""
        return None

    def evaluation_loop(self, dataloader: object, *args: object, **kwargs: object) -> EvalLoopOutput:
        """Accuracy and the method's mean loss over all dev rows.

        Raises:
            TrainingError: The loss is not finite.
        """
        rows = self.eval_dataset
        labels = torch.tensor([item.label for item in rows], device=self.args.device)
        self.model.eval()
        log_probs = self._within_memory(rows, self._score_dev_rows)
        self.processes.sum([log_probs])
        metrics = {
            "eval_loss": (self.model.method.loss(log_probs, labels) / len(rows)).item(),
            "eval_accuracy": (log_probs.argmax(-1) == labels).double().mean().item(),
        }
        self._check_finite(metrics["eval_loss"], f"第 {self.state.global_step} 步之后验证集的损失")
        return EvalLoopOutput(log_probs.cpu().numpy(), labels.cpu().numpy(), metrics, len(rows))

    def _score_dev_rows(self) -> Tensor:
        """Log-probabilities (N, C) of this process's share, zero elsewhere."""
        rows, passes = self.eval_dataset, self._passes(self.eval_dataset)
        log_probs = torch.zeros(len(rows), len(self.model.method.task.labels), device=self.args.device)
        found: list[Tensor] = []
        order: list[int] = []
        self.callback_handler.eval_dataloader = cast(Sized, passes)  # callbacks count it
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, counts in passes:
                trie = self.collate([rows[i] for i in batch])["trie"]
                scores = self.model(self._prepare_input(trie))["logits"].float()
                if counts:
                    found.append(scores)
                    order += batch
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        if order:  # all at once: rows named one pass after another would make a GPU wait at each
            log_probs[order] = torch.cat(found)
        return log_probs


class _Updates(DataLoader):
    """Batches of indices; tells the sampler which epoch it is."""

    def set_epoch(self, epoch: int) -> None:
        cast(LengthBucketSampler, self.batch_sampler).set_epoch(epoch)
