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
from typing import TYPE_CHECKING

from zhsenti.core.errors import ConfigError
from zhsenti.core.remote import silenced
from zhsenti.export.base import Format, Reloaded
from zhsenti.export.network import pad

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel

    from zhsenti.methods.base import Method

MODEL = "model.onnx"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "log_probs"


class Onnx(Format):
    """``model.onnx`` with its weights beside it, so that a model of any size fits and is mapped rather than read."""

    name = "onnx"
    dtypes = ("fp32",)
    default_dtype = "fp32"
    usage = 'onnxruntime.InferenceSession("{folder}/model.onnx")'
    libraries = ("onnx", "onnxscript", "onnxruntime")

    def refuse_loaded(self, method: Method, network: nn.Module) -> None:
        """See ``check_reads``."""
        check_reads(self.name, method, network)

    def write(self, method: Method, network: PreTrainedModel, folder: Path, dtype: str) -> None:
        """The graph, traced at two rows of eight tokens and open in both."""
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

    def load(self, method: Method, folder: Path) -> Reloaded:
        """By onnxruntime on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])

        def score(rows: Sequence[list[int]]) -> np.ndarray:
            return session.run([OUTPUT], dict(zip(INPUTS, pad(rows, 0), strict=True)))[0]

        return Reloaded(f"onnxruntime {onnxruntime.__version__}（CPU）", score)


ONNX = Onnx()


def check_reads(form: str, method: Method, network: nn.Module) -> None:
    """See that all that the method reads is in the graph: one hidden state, multiplied by one row for each class.

    Args:
        form: The format's name, for the message.
        method: The adapter's.
        network: What it scores with.

    Raises:
        ConfigError: It reads more than that.
    """
    if len(method.continuations) > 1:
        raise ConfigError(
            f"标签词不止一个 token 的任务不能导出成 {form}",
            found="、".join(method.task.words) + "：这样的图一次只读提示之后的一个 token",
            todo="换成一个 token 的标签词重新训练，或用 --format merged、gguf。",
        )
    if method.output_rows(network) is None:
        raise ConfigError(
            f"{method.title}不能导出成 {form}",
            found="这样的图里，每个类别的得分只能是最后一个隐藏状态与一行权重的乘积",
            todo="改用 --format merged。",
        )


def _graph(method: Method, network: PreTrainedModel) -> nn.Module:
    """A module from (input_ids, attention_mask) to log_probs."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = network.model
            rows_CD = method.output_rows(network)
            assert rows_CD is not None  # check_reads refused it before any work
            self.register_buffer("rows", rows_CD.detach().clone())

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            hidden_BLD = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
            last_B11 = (attention_mask.sum(1) - 1)[:, None, None]
            state_BD = hidden_BLD.gather(1, last_B11.expand(-1, 1, hidden_BLD.shape[2])).squeeze(1)
            return torch.log_softmax(F.linear(state_BD, self.rows), dim=-1)  # type: ignore[arg-type]

    return Graph().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which reports each of its steps and names libraries that it could make use of."""
    with silenced(logging.WARNING), warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield
