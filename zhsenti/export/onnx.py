"""One ONNX graph from prompt ids to class log-probabilities; only the label rows of the LM head are in it.

Inputs ``input_ids`` and ``attention_mask`` (batch, length), int64, padded on the right; output ``log_probs`` (batch,
classes), float32. Padding needs no attention mask: under causal attention no real token sees what is on its right.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.export.merged import Reloaded, pad
from zhsenti.methods.base import Method

if TYPE_CHECKING:
    import numpy as np

MODEL = "model.onnx"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "log_probs"


def write(method: Method, network: Any, folder: Path, dtype: str) -> None:
    """``model.onnx`` with its weights beside it, so that a model of any size fits and is mapped rather than read."""
    import onnx
    import torch

    ids = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=1)}
    with _quiet():
        torch.onnx.export(
            _graph(method, network.float()),
            (ids, ids.clone()),
            folder / MODEL,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
            external_data=True,
            verbose=False,
        )
    onnx.checker.check_model(str(folder / MODEL))


def _graph(method: Method, network: Any) -> Any:
    """A module (input_ids, attention_mask) -> log_probs."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = network.model
            rows_CD = method.output_rows(network)
            assert rows_CD is not None  # refused before any work
            self.register_buffer("rows", rows_CD.detach().clone())

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            hidden_BLD = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
            last_B11 = (attention_mask.sum(1) - 1)[:, None, None]
            state_BD = hidden_BLD.gather(1, last_B11.expand(-1, 1, hidden_BLD.shape[2])).squeeze(1)
            return torch.log_softmax(F.linear(state_BD, self.rows), dim=-1)  # type: ignore[arg-type]

    return Graph().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps, and libraries that it would know what to do with."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def load(method: Method, folder: Path) -> Reloaded:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])

    def score(rows: Sequence[list[int]]) -> np.ndarray:
        return session.run([OUTPUT], dict(zip(INPUTS, pad(rows, 0), strict=True)))[0]

    return Reloaded(f"onnxruntime {onnxruntime.__version__}（CPU）", score)
