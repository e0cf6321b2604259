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
from typing import TYPE_CHECKING, Any

from zhsenti.export import onnx
from zhsenti.export.merged import Reloaded, pad
from zhsenti.methods.base import Method

if TYPE_CHECKING:
    import numpy as np

MODEL = "openvino_model.xml"


def _openvino() -> Any:
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


def write(method: Method, network: Any, folder: Path, dtype: str) -> None:
    """``openvino_model.xml`` and ``.bin``; with fp16, weights are stored so, and the device computes as it likes."""
    openvino = _openvino()
    graph = folder / "onnx"
    graph.mkdir()
    onnx.write(method, network, graph, "fp32")
    model = openvino.Core().read_model(graph / onnx.MODEL)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=dtype == "fp16")
    del model  # the weights are mapped from the graph's file
    shutil.rmtree(graph)


def load(method: Method, folder: Path) -> Reloaded:
    openvino = _openvino()
    model = openvino.Core().compile_model(folder / MODEL, "CPU")
    computes = model.get_property("INFERENCE_PRECISION_HINT").to_string()

    def score(rows: Sequence[list[int]]) -> np.ndarray:
        return model(dict(zip(onnx.INPUTS, pad(rows, 0), strict=True)))[onnx.OUTPUT]

    return Reloaded(f"openvino {openvino.__version__.split('-')[0]}（CPU，按 {computes} 计算）", score)
