"""A method from outside the package, with a head and a loss of its own, is exported like the others."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.export.exporting import clear_reviews, close, description, reference, run, write_reviews
from tests.tiny_models import make_adapter
from tests.toys import ToyMethod
from zhsenti.methods import METHODS


@pytest.fixture(scope="module")
def toy(tiny_model, tmp_path_factory):
    """An adapter of the toy method, and reviews that it does not find hard."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", ToyMethod)
        adapter = make_adapter(folder / "lora_adapter", tiny_model, "toy")
        texts = clear_reviews([adapter])
        yield SimpleNamespace(adapter=adapter, texts=texts, reviews=write_reviews(folder / "reviews.csv", texts))


def test_merged_it_is_a_classifier_that_transformers_opens(toy, tmp_path):
    from transformers import pipeline

    done = run(model_path=toy.adapter, dtype="fp32", dataset=toy.reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert (values["method"], values["parity"]["agreement"], values["task"]["word_ids"]) == ("toy", 1.0, [])
    assert values["parity"]["max_probability_difference"] < 1e-3
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    short = [text for text in toy.texts if len(text) < 100 and "<|" not in text]
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu", top_k=None)
    prompts = [values["task"]["template"].replace("{text}", text) for text in short]
    rows = [{one["label"]: one["score"] for one in row} for row in classify(prompts, batch_size=8)]
    scores = [[row[label] for label in ("负面", "正面")] for row in rows]
    np.testing.assert_allclose(scores, np.exp(reference(toy.adapter, short)), atol=1e-3)


def test_its_rows_go_into_a_graph(toy, tmp_path):
    """``output_rows`` is all that the graph needs of it."""
    done = run(model_path=toy.adapter, format="onnx", dataset=toy.reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    parity = description(tmp_path / "out")["parity"]
    assert (parity["agreement"], parity["max_probability_difference"] < close(parity["runtime"])) == (1.0, True)


def test_it_has_no_place_in_gguf(toy, tmp_path):
    done = run(model_path=toy.adapter, format="gguf", dataset=toy.reviews, output=tmp_path / "out")
    assert done.refused("玩具不能导出成 gguf", "标签打分")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_head_that_is_no_matrix_is_refused_before_any_work(form, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyMethod, "output_rows", lambda self, network: None)
    done = run(model_path=toy.adapter, format=form, dataset=toy.reviews, output=tmp_path / "out")
    assert done.refused(f"玩具不能导出成 {form}", "--format merged")
    assert "并入基座" not in done.err
    assert not list(tmp_path.iterdir())
