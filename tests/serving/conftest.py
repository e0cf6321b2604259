"""Services that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running import Running, ServerProcess, SlowPredictor, make_service, until  # noqa: F401 (test_page takes them from here)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(*args: Any, warm: bool = True, **kwargs: Any) -> Running:
        running = Running(make_service(*args, **kwargs))
        started.append(running)
        return running.warm() if warm else running

    yield begin
    for running in started:
        for predictor in running.service.batcher.predictors.values():
            predictor.gate.set()
        running.service.batcher.stop()


@pytest.fixture
def server(tmp_path) -> Iterator[Callable[..., ServerProcess]]:
    started: list[ServerProcess] = []

    def begin(**options: Any) -> ServerProcess:
        started.append(ServerProcess(tmp_path, **options))
        return started[-1]

    yield begin
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def adapters(tiny_model, tmp_path_factory):
    """Two adapters of different weights on one tiny base."""
    import torch

    from zhsenti.artifact import Manifest, save_artifact
    from zhsenti.methods import get_method
    from zhsenti.models.backbone import LoraOptions, Tokenizer
    from zhsenti.models.precision import pick_precision
    from zhsenti.models.sources import resolve_model
    from zhsenti.task import SentimentTask

    model, folders = resolve_model(str(tiny_model)), []
    for seed in range(2):
        torch.manual_seed(seed)
        method = get_method("label_scoring")(SentimentTask(), Tokenizer(model.path))
        scorer = method.build(model.path, pick_precision("fp32"), lora=LoraOptions(4, 8, 0.0, "all-linear"))
        with torch.no_grad():
            for name, parameter in scorer.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)
        folder = tmp_path_factory.mktemp(f"adapter{seed}") / f"run{seed}" / "lora_adapter"
        base = {"requested": str(tiny_model), "model_id": str(tiny_model), "source": "folder",
                "revision": model.revision, "precision": "fp32"}  # fmt: skip
        settings = {"settings": {"lora_r": 4}}
        save_artifact(folder, scorer.network, Manifest("label_scoring", SentimentTask(), base, training=settings))
        folders.append(folder)
    return folders
