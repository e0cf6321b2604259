"""From a checkpoint's files back into a live run. The files are a stranger's until they have been read."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerState

from zhsenti.artifact import WEIGHTS, compare_with_live
from zhsenti.core.errors import TrainingError, first_line
from zhsenti.models.failures import is_out_of_memory
from zhsenti.training.checkpoints import BEST, STATE, read_mark

if TYPE_CHECKING:
    from peft import PeftModel

Weights = dict[str, Tensor]
# What reading raises when a file under one of our names holds something else.
_NOT_OURS = (LookupError, ValueError, TypeError, AttributeError, EOFError)


@contextmanager
def refusing(checkpoint: Path | str | None) -> Iterator[None]:
    """Inside, ``checkpoint`` is read. What does not load (a pickle with more than tensors, say) is no state of ours.

    Raises:
        TrainingError: In place of the library's error, unless memory ran out.
    """
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError, OSError, RuntimeError, *_NOT_OURS) as error:
        if is_out_of_memory(error):
            raise
        raise TrainingError(
            f"不能从 {checkpoint} 续训：里面的状态读不出来",
            found=first_line(error),
            todo="换一个检查点，或用 --resume_from_checkpoint none 从头训练。",
        ) from error


def put_adapter(network: nn.Module, weights: Weights, folder: Path) -> None:
    """Put ``weights`` into a live PeftModel, the head included; checked tensor by tensor afterwards.

    Args:
        network: The PeftModel.
        weights: All of its adapter.
        folder: Where they came from, for the message.

    Raises:
        ArtifactError: They are not, bit for bit, what the network holds then.
    """
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(cast("PeftModel", network), dict(weights))
    compare_with_live(network, weights, folder)


def read_state(checkpoint: Path) -> TrainerState:
    """The Trainer's state in a checkpoint.

    Raises:
        ValueError: It holds what the loop could not count on.
    """
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    step, best = state.best_global_step, state.best_metric
    if state.global_step != read_mark(checkpoint)["step"] or not isinstance(state.log_history, list):
        raise ValueError(f"global_step = {state.global_step!r}"[:80])
    if not (step is None or type(step) is int) or not (best is None or (type(best) is float and math.isfinite(best))):
        raise ValueError(f"best_metric = {best!r}，best_global_step = {step!r}"[:120])
    return state


def best_weights(checkpoint: Path) -> Weights:
    """The best adapter that a run had found when it wrote ``checkpoint``; empty before its first evaluation."""
    if (checkpoint / BEST).is_file():
        return load_file(checkpoint / BEST)
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return load_file(checkpoint / WEIGHTS) if state["best_global_step"] == read_mark(checkpoint)["step"] else {}
