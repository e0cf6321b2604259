"""The transformers Trainer with our checkpoints: what one holds, how it is written, and how a run goes on from it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer

from zhsenti.artifact import WEIGHTS, live_adapter, write_adapter
from zhsenti.core.errors import first_line
from zhsenti.methods.base import Scorer
from zhsenti.training.checkpoints import BEST, STATE, UNFINISHED, Identity, commit, last_whole, prune, read_mark
from zhsenti.training.failures import is_disk_error
from zhsenti.training.processes import Processes
from zhsenti.training.restore import Weights, best_weights, put_adapter, refusing

if TYPE_CHECKING:
    pass


class SavingTrainer(Trainer):
    """A Trainer whose checkpoints are those of training/checkpoints.py.

    One holds the adapter (never the base), the best adapter so far, optimizer, schedule, RNG and trainer state, and no
    pickled arguments.

    Attributes:
        processes: Who trains together.
        folder: Where checkpoints are written.
        identity: Of the run; every checkpoint's mark holds it.
        keep: How many checkpoints stay.
        micro_tokens: Tokens of a forward pass, at most; less after memory ran out.
        best: The best evaluation's weights; empty before the first.
    """

    model: Scorer
    processes: Processes
    folder: Path
    identity: Identity
    keep: int
    micro_tokens: int
    best: Weights
    _started: float
    _seconds_before = 0.0  # of training, in the runs that this one goes on from

    def check_weights(self) -> None:
        """To be called before a checkpoint is written; may raise for weights that are not worth it."""

    def restore_best(self) -> None:
        """Give the network the weights of the best evaluation."""
        if self.best:
            put_adapter(self.model.network, self.best, self.folder)

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best:
            live = live_adapter(self.model.network)
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in live.items()}
        return is_best

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(output_dir) if output_dir else self.folder
        write_adapter(self.model.network, folder)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """Write, mark, rename, prune. A disk that does not take it costs this checkpoint, not the run.

        Raises:
            TrainingError: There is a weight that is not finite.
        """
        step = self.state.global_step
        folder = self.folder / f"checkpoint-{step}"
        unfinished = self.folder / f"{UNFINISHED}{folder.name}"
        self.check_weights()
        fault = (
            self._attempt(lambda: self._write_shared(unfinished), self.processes.is_main)
            or self._attempt(lambda: self._save_rng_state(str(unfinished)))
            or self._attempt(lambda: self._commit(unfinished, folder), self.processes.is_main)
        )
        if fault:
            if self.processes.is_main:
                shutil.rmtree(unfinished, ignore_errors=True)
            self.processes.say(
                f"第 {step} 步的检查点没存下（{fault}）：训练继续，下次再存；{last_whole(self.folder)}。"
            )
            return
        fault = self._attempt(lambda: prune(self.folder, self.keep), self.processes.is_main)
        if fault:
            self.processes.say(f"更早的检查点没能删掉（{fault}）。")

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
        seconds = self._seconds_before + time.monotonic() - self._started
        step, tokens = self.state.global_step, self.micro_tokens
        commit(unfinished, folder, self.identity, step=step, micro_tokens=tokens, seconds=seconds)

    # ── going on ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        with refusing(folder):
            put_adapter(self.model.network, load_file(folder / WEIGHTS), folder)
            self.best = best_weights(folder)
            self._seconds_before = read_mark(folder)["seconds"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with refusing(checkpoint):
            super()._load_rng_state(checkpoint)
