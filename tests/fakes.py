"""Stand-ins with the surface of the real thing: prediction, evaluation and serving are tested without weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import save_file

from zhsenti.artifact import MANIFEST, WEIGHTS, Manifest, open_artifact, seal
from zhsenti.prediction.result import Prediction
from zhsenti.task import SentimentTask

GOOD, BAD = ("很好", "不错", "满意", "喜欢"), ("很差", "太吵", "失望", "退货")


class KeywordPredictor:
    """``SentimentPredictor``'s surface; a class's score is how many of its keywords the text holds.

    ``strength`` scales the scores (0 knows nothing); ``calls`` records the size of every call.
    ``twin`` is the zero-shot one, once it was asked for.
    ``after_call`` is run after each call and may raise, as a kill would stop a run there.
    """

    method_name = "label_scoring"
    precision = SimpleNamespace(name="fp32")  # as ``write_adapter`` says of the training

    def __init__(self, task: SentimentTask | None = None, *, strength: float = 2.0, manifest: Manifest | None = None):
        self.task = task or (manifest.task if manifest else SentimentTask())
        self.strength, self.manifest = strength, manifest
        self.keywords = [BAD, *[()] * (len(self.task.labels) - 2), GOOD]
        self.calls: list[int] = []
        self.twin: KeywordPredictor | None = None
        self.after_call: Callable[[], None] = lambda: None

    def log_probs(
        self,
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        hits = [[sum(text.count(word) for word in words) for words in self.keywords] for text in texts]
        logits = self.strength * np.array(hits, dtype=np.float64).reshape(len(texts), len(self.task.labels))
        scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        self.calls.append(len(texts))
        if progress:
            progress(len(texts))
        self.after_call()
        return scores.astype(np.float32)

    def predict_batch(
        self,
        texts: Sequence[str],
        aspects: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        probabilities = np.exp(self.log_probs(texts, aspects, progress=progress))
        rows = zip(texts, probabilities, strict=True)
        return [Prediction.of(self.task.labels, row, len(text), False) for text, row in rows]

    def zero_shot(self) -> KeywordPredictor:
        self.twin = KeywordPredictor(self.task, strength=0.0)
        self.twin.after_call = self.after_call
        return self.twin


def write_adapter(
    folder: Path, data: dict | None = None, task: SentimentTask | None = None, weights: bytes = b"some"
) -> Manifest:
    """A sealed adapter folder that ``open_artifact`` accepts; ``weights`` are the bytes of the only LoRA pair."""
    folder.mkdir(parents=True)
    pair = np.frombuffer(weights.ljust(-(-len(weights) // 4) * 4), dtype=np.float32)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": pair.reshape(1, -1), f"{name}.lora_B.weight": pair.reshape(-1, 1)}, folder / WEIGHTS
    )
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    base = {"requested": "embedded", "model_id": "embedded", "source": "fake", "revision": "r1", "precision": "fp32"}
    values = {
        "method": "label_scoring",
        "task": (task or SentimentTask()).to_dict(),
        "base": base,
        "data": data or {},
        "training": {"settings": {"max_train_samples": 0}},
        "versions": {},
        "format": 1,
    }
    seal(folder, MANIFEST, values)
    return open_artifact(folder).manifest
