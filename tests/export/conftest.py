"""One tiny adapter a method, one export a method and format, made once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.export.exporting import Done, Export, clear_reviews, reuse_graph, run, watched, write_reviews
from tests.tiny_models import make_adapter
from zhsenti.methods import METHODS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Of tiny models a second thread does nothing but wait, for long where other work runs.

    pytest calls this for the tests of every folder.
    """
    if not item.path.is_relative_to(Path(__file__).parent) or item.get_closest_marker("real"):
        return (yield)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return (yield)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def adapters(tiny_model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: make_adapter(folder / name / "lora_adapter", tiny_model, name) for name in METHODS}


@pytest.fixture(scope="session")
def adapter(adapters) -> Path:
    return adapters["label_scoring"]


@pytest.fixture(scope="session")
def texts(adapters) -> list[str]:
    return clear_reviews(list(adapters.values()))


@pytest.fixture(scope="session")
def reviews(texts, tmp_path_factory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv", texts)


@pytest.fixture(scope="session")
def exported(adapters, reviews, tmp_path_factory) -> Callable[[str, str], Export]:
    """(method, format) -> that export, float32, made at the first call under the eyes of ``watched``.

    OpenVINO models are made of the graph in the ONNX export: torch takes 5 seconds to trace one.
    """
    made: dict[tuple[str, str], Export] = {}

    def export(method: str, form: str) -> Export:
        if (method, form) not in made:
            output = tmp_path_factory.mktemp("exports") / f"{method}_{form}"
            with watched() as seen, pytest.MonkeyPatch.context() as patch:
                if form == "openvino":
                    reuse_graph(patch, export(method, "onnx").folder)
                done = run(model_path=adapters[method], format=form, dtype="fp32", dataset=reviews, output=output)
            assert done.rc == 0, done.err
            made[method, form] = Export(output, done, seen)
        return made[method, form]

    return export


@pytest.fixture
def graph_of(exported, monkeypatch) -> Callable[[str], None]:
    """From its call on, the graph that is written is the one that was traced for ``method`` before."""
    return lambda method: reuse_graph(monkeypatch, exported(method, "onnx").folder)


@pytest.fixture
def export(adapter, reviews, tmp_path) -> Callable[..., Done]:
    """The command on the label-scoring adapter, as float32 transformers folder at tmp_path/out, with other flags."""

    def call(**flags: Any) -> Done:
        values = {"model_path": adapter, "dataset": reviews, "output": tmp_path / "out", "dtype": "fp32"}
        return run(**{**values, **flags})

    return call
