"""The graph, asked by onnxruntime alone with what its folder says."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest

from tests.export.exporting import description, method_of, reference
from zhsenti.export.onnx import ONNX, _quiet


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_onnxruntime_alone_gets_the_adapters_scores(method, exported, adapters, texts):
    import onnxruntime
    from transformers import AutoTokenizer

    folder = exported(method, "onnx").folder
    task, tokenizer = description(folder)["task"], AutoTokenizer.from_pretrained(folder)
    short = [text for text in texts if len(text) < 100 and "<|" not in text]
    prompts = [task["template"].replace("{text}", text) for text in short]
    batch = tokenizer(prompts, return_tensors="np", padding=True, padding_side="right")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (found,) = session.run(["log_probs"], {name: batch[name] for name in ("input_ids", "attention_mask")})
    np.testing.assert_allclose(found, reference(adapters[method], short), atol=1e-3)


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_inputs_and_output(method, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(method, "onnx").folder / "model.onnx")
    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [
        ("input_ids", "tensor(int64)", ["batch", "length"]),
        ("attention_mask", "tensor(int64)", ["batch", "length"]),
    ]
    (output,) = session.get_outputs()
    assert (output.name, output.type, output.shape) == ("log_probs", "tensor(float)", ["batch", 2])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 3)])
def test_any_batch_and_length(shape, exported, adapter):
    """The graph was traced at (2, 8)."""
    score = ONNX.load(method_of(adapter), exported("label_scoring", "onnx").folder).score
    found = score([[1 + i] * shape[1] for i in range(shape[0])])
    assert found.shape == (shape[0], 2)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_what_stands_under_the_padding_does_not_matter(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported("classifier_head", "onnx").folder / "model.onnx")
    mask = np.array([[1, 1, 1, 0, 0]])
    scores = [
        session.run(None, {"input_ids": np.array([[5, 6, 7, *rest]]), "attention_mask": mask})[0]
        for rest in ([0, 0], [9, 9], [260, 1])
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_weights_lie_beside_the_graph_with_the_label_rows_alone(exported, tiny_tokenizer):
    """Any size fits (protobuf holds 2 GB), and the rest of the LM head, a third of a small model, is left out."""
    import onnx as library

    folder = exported("label_scoring", "onnx").folder
    model = library.load(str(folder / "model.onnx"), load_external_data=False)
    outside = [one for one in model.graph.initializer if one.external_data]
    assert {entry.value for one in outside for entry in one.external_data if entry.key == "location"} == {
        "model.onnx.data"
    }
    vocabulary = [list(one.dims) for one in outside if len(tiny_tokenizer) in one.dims]
    assert vocabulary == [[len(tiny_tokenizer), 32]]  # the embedding
    assert (folder / "model.onnx").stat().st_size < 1e6


def test_the_exporter_is_quiet_and_the_settings_come_back(exported):
    for method in ("label_scoring", "classifier_head"):
        done = exported(method, "onnx").done
        assert "torch.onnx" not in done.out + done.err
        assert not [line for line in done.err.splitlines() if "arning" in line]
    before = logging.root.manager.disable
    with _quiet():
        warnings.warn("nobody hears this", stacklevel=1)
        assert logging.root.manager.disable == logging.WARNING
    assert logging.root.manager.disable == before
