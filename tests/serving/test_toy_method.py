"""A method from outside the package, with a head and a loss of its own, is served like the others."""

from __future__ import annotations

import asyncio

import pytest

from tests.serving.running import Running
from tests.tiny_models import make_adapter
from tests.toys import ToyMethod
from zhsenti.methods import METHODS
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.serving.command import load_service
from zhsenti.serving.config import ServeConfig
from zhsenti.serving.limits import Gate

TEXTS = ["房间很好", "太吵了，不会再来"]


def test_it_answers_beside_another_method_and_explains(adapters, tiny_model, monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "toy", ToyMethod)
    toy = make_adapter(tmp_path / "toy" / "lora_adapter", tiny_model, "toy")
    expected = SentimentPredictor.from_folder(toy).predict_batch(TEXTS)
    service = load_service(ServeConfig(model_path=[str(adapters[0]), str(toy)]), Gate(None, None, 1 << 20))

    async def go():
        running = Running(service)
        await asyncio.to_thread(running.warm)
        async with running.client() as client:
            models = (await client.get("/v1/models")).json()["models"]
            many = await client.post("/v1/predict", json={"texts": TEXTS, "model": "toy"}, timeout=60)
            why = await client.post("/v1/predict", json={"text": TEXTS[1], "model": "toy", "explain": True}, timeout=60)
        service.batcher.stop()
        return models, many.raise_for_status().json()["results"], why.raise_for_status().json()["results"][0]

    models, results, explained = asyncio.run(go())
    assert [(one["name"], one["method"]) for one in models][1] == ("toy", "toy")
    for result, want in zip(results, expected, strict=True):
        assert result["label"] == want.label
        assert result["scores"] == pytest.approx(want.scores, abs=1e-5)
    assert explained["label"] == expected[1].label
    assert [unit["text"] for unit in explained["explanation"]["clauses"]] == ["太吵了，", "不会再来"]
