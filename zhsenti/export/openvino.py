"""OpenVINO IR, read from the ONNX graph (same inputs and output).

OpenVINO reports its import and every ``convert_model`` with openvino_telemetry, which sends, and writes an id into the
user's home, unless a file there says no. So it is imported without that package, and the graph is converted by
``Core.read_model``. ``tests/export/test_openvino.py`` watches the sockets.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from zhsenti.export.base import BYTES, Format, Reloaded
from zhsenti.export.network import pad
from zhsenti.export.onnx import INPUTS, ONNX, OUTPUT, check_reads
from zhsenti.export.onnx import MODEL as GRAPH

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel

    from zhsenti.methods.base import Method

MODEL = "openvino_model.xml"


def _openvino() -> ModuleType:
    """The library, as it is where openvino_telemetry is not installed."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO takes its own empty stub
    try:
        return importlib.import_module("openvino")
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


class OpenVino(Format):
    """``openvino_model.xml`` and ``.bin``; with fp16, weights are stored so, and the device computes as it likes."""

    name = "openvino"
    dtypes = ("fp16", "fp32")
    default_dtype = "fp16"
    usage = 'openvino.Core().compile_model("{folder}/openvino_model.xml", "CPU")'
    libraries = ("onnx", "onnxscript", "openvino")

    def refuse_loaded(self, method: Method, network: nn.Module) -> None:
        """See ``check_reads``."""
        check_reads(self.name, method, network)

    def room(self, dtype: str) -> float:
        """With the ONNX graph, which lies there in float32 meanwhile."""
        return BYTES[dtype] + BYTES["fp32"]

    def write(self, method: Method, network: PreTrainedModel, folder: Path, dtype: str) -> None:
        """The ONNX graph, converted; it is removed again."""
        openvino = _openvino()
        graph = folder / "onnx"
        graph.mkdir()
        ONNX.write(method, network, graph, "fp32")
        model = openvino.Core().read_model(graph / GRAPH)
        openvino.save_model(model, folder / MODEL, compress_to_fp16=dtype == "fp16")
        del model  # the weights are mapped from the graph's file
        shutil.rmtree(graph)

    def load(self, method: Method, folder: Path) -> Reloaded:
        """By OpenVINO on the CPU, in the precision that it chooses there."""
        openvino = _openvino()
        model = openvino.Core().compile_model(folder / MODEL, "CPU")
        computes = model.get_property("INFERENCE_PRECISION_HINT").to_string()

        def score(rows: Sequence[list[int]]) -> np.ndarray:
            return model(dict(zip(INPUTS, pad(rows, 0), strict=True)))[OUTPUT]

        return Reloaded(f"openvino {openvino.__version__.split('-')[0]}（CPU，按 {computes} 计算）", score)


OPENVINO = OpenVino()
