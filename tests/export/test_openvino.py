"""The IR, asked by OpenVINO alone; and nothing is told to anybody while it is made."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from tests.export.exporting import CASES, close, description, method_of, reference, run, watched
from tests.paths import ROOT
from zhsenti.export.openvino import OPENVINO, _openvino


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_openvino_alone_gets_the_adapters_scores(method, exported, adapters, texts):
    from transformers import AutoTokenizer

    library = _openvino()
    folder = exported(method, "openvino").folder
    task, tokenizer = description(folder)["task"], AutoTokenizer.from_pretrained(folder)
    short = [text for text in texts if len(text) < 100 and "<|" not in text][:8]
    prompts = [task["template"].replace("{text}", text) for text in short]
    batch = tokenizer(prompts, return_tensors="np", padding=True, padding_side="right")
    model = library.Core().compile_model(folder / "openvino_model.xml", "CPU")
    assert [{*one.names} for one in model.inputs] == [{"input_ids"}, {"attention_mask"}]
    found = model({name: batch[name] for name in ("input_ids", "attention_mask")})["log_probs"]
    far = close(model.get_property("INFERENCE_PRECISION_HINT").to_string())
    np.testing.assert_allclose(np.exp(found), np.exp(reference(adapters[method], short)), atol=far)


def test_sixteen_bit_weights_are_the_default_and_half_the_size(exported, adapter, reviews, graph_of, tmp_path):
    graph_of("label_scoring")
    done = run(model_path=adapter, format="openvino", dataset=reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert (values["dtype"], values["parity"]["agreement"]) == ("fp16", 1.0)
    whole = (exported("label_scoring", "openvino").folder / "openvino_model.bin").stat().st_size
    assert (tmp_path / "out" / "openvino_model.bin").stat().st_size < 0.6 * whole


def test_nothing_of_the_graph_in_between_is_left(exported):
    assert not list(exported("label_scoring", "openvino").folder.rglob("*onnx*"))


def test_the_runtime_says_how_it_computes(exported, adapter):
    reloaded = OPENVINO.load(method_of(adapter), exported("label_scoring", "openvino").folder)
    assert reloaded.runtime.startswith("openvino 20")
    assert reloaded.runtime.endswith("计算）")


# Telling nobody -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "form"), CASES)
def test_no_format_reaches_for_the_network(method, form, exported):
    assert exported(method, form).connections == []


def test_the_watch_sees_what_it_is_there_for():
    with watched() as seen:
        for address in ("http://192.0.2.1/", "http://telemetry.example/"):
            with pytest.raises(URLError):
                urlopen(address, timeout=1)
        with pytest.raises(OSError, match="no network"), socket.socket() as one:
            one.connect(("192.0.2.1", 443))
    assert [line.split()[0] for line in seen] == ["getaddrinfo", "getaddrinfo", "connect"]


def test_importing_openvino_tells_nobody(exported, tmp_path):
    """A fresh process: OpenVINO sends "ov, import" when it is first imported, and writes an id into the home."""
    home = tmp_path / "home"
    home.mkdir()
    script = f"""
import sys
from pathlib import Path
import pytest
from tests.export.exporting import reuse_graph, watched
with watched() as seen, pytest.MonkeyPatch.context() as patch:
    for name in [name for name in sys.modules if name.startswith("openvino")]:
        del sys.modules[name]  # the watch looked at them
    from zhsenti.export.openvino import OPENVINO
    reuse_graph(patch, Path({str(exported("label_scoring", "onnx").folder)!r}))
    OPENVINO.write(None, None, Path({str(tmp_path)!r}), "fp16")
    OPENVINO.load(None, Path({str(tmp_path)!r})).score([[1, 2, 3], [4]])
told = [name for name in sys.modules if name.startswith("openvino_telemetry")]
print("seen", seen, "telemetry", told)
"""
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "seen [] telemetry []\n"
    assert not list(home.rglob("*"))


def test_a_telemetry_that_was_there_before_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_telemetry", sys)
    _openvino()
    assert sys.modules["openvino_telemetry"] is sys
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    _openvino()
    assert "openvino_telemetry" not in sys.modules
