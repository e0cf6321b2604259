"""The transformers Trainer with our batches, our saved files and our words."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from zhsenti.artifact import WEIGHTS, compare_with_saved
from zhsenti.methods.base import Encoded, token_batches
from zhsenti.models.trie import TokenTrie
from zhsenti.training.batching import LengthBucketSampler
from zhsenti.training.checkpoints import seal_checkpoint


class SentimentTrainer(Trainer):
    """Trains a ``Scorer``; what differs from the Trainer is only which batches, and what a checkpoint holds.

    The Trainer's batch is a whole update; ``training_step`` cuts it into micro-batches of at most ``micro_tokens``, so
    memory is bounded by tokens and does not decide what an update is.
    A checkpoint holds the adapter (never the base), optimizer, scheduler, RNG and trainer state, and is sealed last;
    older ones are pruned only after that. No pickled arguments are written.
    """

    model: Any  # a Scorer, as given
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self, *, sampler: LengthBucketSampler, micro_tokens: int, identity: dict[str, Any], keep: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sampler, self.micro_tokens, self.identity, self.keep = sampler, micro_tokens, identity, keep
        self.collate = self.model.method.collate
        self.folder = Path(kwargs["args"].output_dir)
        self.model_accepts_loss_kwargs = True  # the Scorer takes num_items_in_batch
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        def update(items: list[Encoded]) -> dict[str, Any]:
            return {"labels": torch.tensor([item.label for item in items]), "items": items}

        return self.accelerator.prepare(DataLoader(self.train_dataset, batch_sampler=self.sampler, collate_fn=update))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        batches = token_batches([len(item.ids) for item in rows], self.micro_tokens)
        return self.accelerator.prepare(DataLoader(rows, batch_sampler=batches, collate_fn=self.collate))

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one update, summed over its micro-batches; returns the update's mean loss."""
        items: list[Encoded] = inputs["items"]
        batches = token_batches([len(item.ids) for item in items], self.micro_tokens)
        loss = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(batches, 1):
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(model):
                loss += super().training_step(model, self.collate([items[i] for i in batch]), num_items_in_batch)
        return loss

    def _prepare_input(self, data: Any) -> Any:
        return data.to(self.args.device) if isinstance(data, TokenTrie) else super()._prepare_input(data)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir) if output_dir else self.folder
        self.model.network.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        seal_checkpoint(folder, self.identity, self.micro_tokens)
        rotate_checkpoints(
            output_dir=str(self.folder),
            save_total_limit=self.keep,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=False,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_adapter_weights(self.model.network, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_adapter_weights(self.model.network, Path(str(self.state.best_model_checkpoint)))


def load_adapter_weights(network: Any, folder: Path) -> None:
    """Read the adapter (and head) in ``folder`` into a live PeftModel; checked tensor by tensor afterwards."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(network, load_file(folder / WEIGHTS))
    compare_with_saved(network, folder)


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


class FinalCheckpoint(TrainerCallback):
    """The last step is evaluated and saved too, also when it is no multiple of eval_steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class ResultsLog(TrainerCallback):
    """``train_results.json``: one JSON object a line, written as it happens, so ``tail -f`` follows the run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            values = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
            self.write("train", step=state.global_step, epoch=round(state.epoch, 4), **values)
        if "eval_accuracy" in logs:
            self.write(
                "eval",
                step=state.global_step,
                epoch=round(state.epoch, 4),
                dev_accuracy=logs["eval_accuracy"],
                dev_loss=logs["eval_loss"],
                seconds=logs["eval_runtime"],
            )


class ProgressView(TrainerCallback):
    """A bar with ETA, loss and dev accuracy on a terminal; a line per log elsewhere (a file, CI)."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        self.loss, self.dev = "…", "…"
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("剩余"),
            TimeRemainingColumn(),
            console=self.console,
            transient=False,
        )
        self.train_task: Any = None
        self.dev_task: Any = None
        self.started = 0.0

    def _note(self) -> str:
        return f"损失 {self.loss}  验证准确率 {self.dev}"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if self.console.is_terminal:
            self.bar.start()
        self.train_task = self.bar.add_task(
            "训练", total=state.max_steps, completed=state.global_step, note=self._note()
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.train_task, completed=state.global_step, note=self._note())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.loss = f"{logs['loss']:.4f}"
        if "eval_accuracy" in logs:
            self.dev = f"{logs['eval_accuracy']:.2%}"
        self.bar.update(self.train_task, note=self._note())
        if not self.console.is_terminal and ("loss" in logs or "eval_accuracy" in logs):
            done = state.global_step - self.first_step
            left = (time.monotonic() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
            self.console.print(
                f"步 {state.global_step}/{state.max_steps}  {self._note()}  剩余约 {left / 60:.1f} 分钟",
                highlight=False,
            )

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if self.dev_task is None:
            self.dev_task = self.bar.add_task("验证", total=len(eval_dataloader), note="")
        self.bar.advance(self.dev_task)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.dev_task is not None:
            self.bar.remove_task(self.dev_task)
            self.dev_task = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()


def peak_memory_bytes() -> int:
    """Peak of this process: GPU memory where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
