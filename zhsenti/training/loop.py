"""The transformers Trainer with our batches, our checkpoints and our evaluation."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from zhsenti.artifact import WEIGHTS
from zhsenti.core.errors import TrainingError, first_line
from zhsenti.methods.prompt import Encoded, token_batches
from zhsenti.models.trie import TokenTrie
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.checkpoints import BEST, STATE, UNFINISHED, commit, last_whole, prune, read_mark
from zhsenti.training.interrupts import is_disk_error, is_out_of_memory
from zhsenti.training.processes import Processes
from zhsenti.training.restore import best_weights, put_adapter, refusing


class SentimentTrainer(Trainer):
    """Trains a ``Scorer``; what differs from the Trainer is which batches, what a checkpoint holds, and what may fail.

    The Trainer's batch is a whole update; ``training_step`` cuts it into micro-batches of at most ``micro_tokens``, so
    memory is bounded by tokens and does not decide what an update is. Several processes share each update's reviews.
    A checkpoint holds the adapter (never the base), the best adapter so far, optimizer, schedule, RNG and trainer
    state, and no pickled arguments; see training/checkpoints.py.

    rows  of each training item: its data row in the source, to name a batch that fails;  say  prints a Chinese line.
    """

    model: Any  # a Scorer, as given
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        *,
        sampler: LengthBucketSampler,
        micro_tokens: int,
        identity: dict[str, Any],
        keep: int,
        rows: list[int] | None = None,
        processes: Processes | None = None,
        say: Callable[[str], None] = print,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler, self.micro_tokens, self.identity, self.keep = sampler, micro_tokens, identity, keep
        self.rows, self.processes, self.say = rows or [], processes or Processes(), say
        self.best: dict[str, torch.Tensor] = {}
        self.started, self.seconds_before = time.monotonic(), 0.0
        self._update: list[int] = []  # the reviews of the last update, as indices
        self.collate = self.model.method.collate
        self.folder = Path(kwargs["args"].output_dir)
        self.model_accepts_loss_kwargs = True  # the Scorer takes num_items_in_batch
        self.remove_callback(PrinterCallback)
        # Gradients are summed here, once an update, so that a process may take fewer reviews, or its passes again,
        # while the others wait; DistributedDataParallel around the model would only be in the way.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def get_train_dataloader(self) -> DataLoader:
        def update(indices: list[int]) -> dict[str, Any]:
            # The Trainer counts an update's reviews by the labels of all processes together.
            labels = [self.train_dataset[i].label for i in self.processes.share(indices)]
            return {"labels": torch.tensor(labels), "indices": indices}

        everything: Any = range(len(self.train_dataset))
        return _Updates(everything, batch_sampler=self.sampler, collate_fn=update)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one update, summed over micro-batches and processes; returns the update's mean loss.

        Out of memory, the micro-batches are halved and the update is computed again from its start. Raises
        TrainingError when one review alone does not fit, or the loss is not finite.
        """
        items = [self.train_dataset[i] for i in inputs["indices"]]
        loss = self._within_memory(items, lambda: self._accumulate(model, items, num_items_in_batch))
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.processes.count > 1:
            for parameter in parameters:
                if parameter.grad is None:  # an update with fewer reviews than processes
                    parameter.grad = torch.zeros_like(parameter)
            self.processes.sum([loss, *(p.grad for p in parameters)])
            loss /= self.processes.count  # as the Trainer has multiplied by it
            for parameter in parameters:
                parameter.grad /= self.processes.count
        self._update = inputs["indices"]
        self._check_finite(loss, f"第 {self.state.global_step + 1} 步的损失")
        return loss

    def _within_memory(self, items: list[Encoded], work: Callable[[], torch.Tensor]) -> torch.Tensor:
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
            self.say(f"另一个进程内存不足：每次前向减为至多 {smallest} token，有效批量不变，继续训练。")
        return result

    def _accumulate(self, model: Any, items: list[Encoded], num_items_in_batch: Any) -> torch.Tensor:
        model.zero_grad()  # of a pass that failed
        loss = torch.zeros((), device=self.args.device)
        for batch, counts in self._passes(items):
            over: Any = num_items_in_batch if counts else math.inf
            loss += super().training_step(model, self.collate([items[i] for i in batch]), over)
        return loss

    def _passes(self, items: list[Encoded]) -> list[tuple[list[int], bool]]:
        """This process's forward passes over its share of ``items``: indices, and whether their result counts.

        With a sharded base all processes need as many: passes are cut first and shared then, and a process without a
        review of its own in one takes one along that does not count.
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
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        passes = [[len(items[i].ids) for i in batch] for batch, _ in self._passes(items)]
        if any(len(lengths) > 1 for lengths in passes):
            self.micro_tokens = max(min(self.micro_tokens, max(map(sum, passes))) // 2, 1)
            self.say(f"内存不足：每次前向减为至多 {self.micro_tokens} token，有效批量不变，继续训练。")
        elif not self.model.checkpointing:
            self.model.enable_checkpointing()
            self.say("内存不足：改为重算激活（约慢三分之一），结果不变，继续训练。")
        else:
            raise TrainingError(
                f"内存不足：一条 {max(map(sum, passes))} token 的评论也放不下",
                found=last_whole(self.folder),
                todo="腾出内存，同一条命令加 --resume_from_checkpoint auto；或减小 --max_length、换小一号的基座重来。",
            )

    def _check_finite(self, value: torch.Tensor | float, what: str) -> None:
        """Raises TrainingError that names the last update's reviews where ``value`` is not finite."""
        if math.isfinite(float(value)):
            return
        rows = sorted(self.rows[i] for i in self._update) if self.rows else self._update
        shown = "、".join(map(str, rows[:32])) + (f" 等 {len(rows)} 条" if len(rows) > 32 else "")
        raise TrainingError(
            f"{what}不是有限的数（{float(value)}），训练已停，没有存下这样的权重",
            expected="有限的数",
            found=f"最后一批是训练数据的第 {shown} 行",
            todo=f"减小 --learning_rate，或用 --precision fp32，并检查这些行。{last_whole(self.folder)}。",
        )

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.scaler is None:  # fp16's scaler expects infinite gradients and skips such steps itself
            self._check_finite(norm, f"第 {self.state.global_step + 1} 步的梯度范数")
        return norm

    def _prepare_input(self, data: Any) -> Any:
        return data.to(self.args.device) if isinstance(data, TokenTrie) else super()._prepare_input(data)

    # ── evaluation ────────────────────────────────────────────────────────────────────────────────────────────────

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return None  # passes are cut when their time comes

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Accuracy and mean loss over all dev rows. Raises TrainingError for a loss that is not finite."""
        rows = self.eval_dataset
        labels = torch.tensor([item.label for item in rows], device=self.args.device)
        self.model.eval()
        log_probs = self._within_memory(rows, self._score_dev_rows)
        self.processes.sum([log_probs])
        metrics = {
            "eval_loss": F.nll_loss(log_probs, labels).item(),
            "eval_accuracy": (log_probs.argmax(-1) == labels).double().mean().item(),
        }
        self._check_finite(metrics["eval_loss"], f"第 {self.state.global_step} 步之后验证集的损失")
        return EvalLoopOutput(log_probs.cpu().numpy(), labels.cpu().numpy(), metrics, len(rows))

    def _score_dev_rows(self) -> torch.Tensor:
        """Log-probabilities (N, C) of this process's share, zero elsewhere."""
        rows, passes = self.eval_dataset, self._passes(self.eval_dataset)
        log_probs = torch.zeros(len(rows), len(self.model.method.task.labels), device=self.args.device)
        self.callback_handler.eval_dataloader = passes
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, counts in passes:
                trie = self.collate([rows[i] for i in batch])["trie"]
                found = self.model(self._prepare_input(trie))["logits"].float()
                if counts:
                    log_probs[batch] = found
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        return log_probs

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best:
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self._adapter().items()}
        return is_best

    def restore_best(self) -> None:
        """Give the network the weights of the best evaluation."""
        if self.best:
            put_adapter(self.model.network, self.best, self.folder)

    def _adapter(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(self.model.network, save_embedding_layers=False)

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir) if output_dir else self.folder
        self.model.network.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write, mark, rename, prune. A disk that does not take it costs this checkpoint, not the run.

        Raises TrainingError when there is a weight that is not finite.
        """
        step = self.state.global_step
        folder = self.folder / f"checkpoint-{step}"
        unfinished = self.folder / f"{UNFINISHED}{folder.name}"
        for name, tensor in self._adapter().items():
            self._check_finite(tensor.abs().max(), f"第 {step} 步之后的权重 {name} ")
        fault = (
            self._attempt(lambda: self._write_shared(unfinished), self.processes.is_main)
            or self._attempt(lambda: self._save_rng_state(str(unfinished)))
            or self._attempt(lambda: self._commit(unfinished, folder), self.processes.is_main)
        )
        if fault:
            if self.processes.is_main:
                shutil.rmtree(unfinished, ignore_errors=True)
            self.say(f"第 {step} 步的检查点没存下（{fault}）：训练继续，下次再存；{last_whole(self.folder)}。")
            return
        kept = self._attempt(lambda: prune(self.folder, self.keep), self.processes.is_main)
        if kept:
            self.say(f"更早的检查点没能删掉（{kept}）。")

    def _attempt(self, work: Callable[[], None], is_mine: bool = True) -> str:
        """What the disk answered ``work`` in any process, or an empty string; all wait for each other here."""
        fault = ""
        try:
            if is_mine:
                work()
        except (OSError, RuntimeError, SafetensorError) as error:
            if not is_disk_error(error):
                raise
            fault = first_line(error)
        return self.processes.any(fault)

    def _write_shared(self, unfinished: Path) -> None:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        self._save(str(unfinished))
        if self.best and self.state.best_global_step != self.state.global_step:
            save_file(self.best, unfinished / BEST)
        self._save_optimizer_and_scheduler(str(unfinished))
        self._save_scaler(str(unfinished))
        self.state.save_to_json(str(unfinished / STATE))

    def _commit(self, unfinished: Path, folder: Path) -> None:
        seconds = self.seconds_before + time.monotonic() - self.started
        step, tokens = self.state.global_step, self.micro_tokens
        commit(unfinished, folder, self.identity, step=step, micro_tokens=tokens, seconds=seconds)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        with refusing(folder):
            put_adapter(self.model.network, load_file(folder / WEIGHTS), folder)
            self.best = best_weights(folder)
            self.seconds_before = read_mark(folder)["seconds"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_rng_state(checkpoint)


class _Updates(DataLoader):
    """Batches of indices; tells the sampler which epoch it is."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def peak_memory_bytes() -> int:
    """Peak of this process: GPU memory where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
