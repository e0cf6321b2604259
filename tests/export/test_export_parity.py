"""An export that does not say what the adapter says is refused, and nothing of it is left."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.exporting import spoil_load, spoil_write
from zhsenti.export import network


@pytest.mark.parametrize("form", ["merged", "gguf"])
def test_other_weights_on_the_disk_are_refused(form, export, monkeypatch, tmp_path):
    spoil_write(monkeypatch, form)
    assert export(format=form).refused("不一致", "60 条中标签相同的 0.00%", "reviews:1、reviews:2", "99.5%")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("method", "form"), [("label_scoring", "onnx"), ("classifier_head", "openvino")])
def test_a_graph_that_answers_otherwise_is_refused(method, form, adapters, graph_of, export, monkeypatch, tmp_path):
    graph_of(method)
    spoil_load(monkeypatch, form, lambda scores: scores[:, ::-1])
    assert export(model_path=adapters[method], format=form).refused("不一致", "0.00%")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_an_adapter_left_out_is_refused(method, adapters, export, monkeypatch, tmp_path):
    """The mistake that is easiest to make: the bare base, whole and well written."""
    from zhsenti.models.precision import pick_precision

    def bare(made, base, adapter):
        return made.build(base, pick_precision("fp32"), merge=True).network.cpu().eval()

    monkeypatch.setattr(network, "merge", bare)
    assert export(model_path=adapters[method]).refused("不一致")
    assert not list(tmp_path.iterdir())


def test_one_row_of_sixty_is_too_many(export, monkeypatch, tmp_path):
    flipped = []

    def one(scores):
        if not flipped:
            flipped.append(scores[0])
            scores[0] = scores[0, ::-1]
        return scores

    spoil_load(monkeypatch, "merged", one)
    assert export().refused("98.33%")
    assert not list(tmp_path.iterdir())


def test_no_numbers_are_refused(export, monkeypatch, tmp_path):
    def nan(scores):
        scores[-1] = np.nan
        return scores

    spoil_load(monkeypatch, "merged", nan)
    assert export().refused("NaN")
    assert not list(tmp_path.iterdir())
