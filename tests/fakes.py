"""Stand-ins with the surface of the real thing: prediction, evaluation and serving are tested without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from zhsenti.artifact import MANIFEST, WEIGHTS, Manifest, load_manifest, seal
from zhsenti.labels import SentimentTask

GOOD, BAD = ("很好", "不错", "满意", "喜欢"), ("很差", "太吵", "失望", "退货")


class KeywordPredictor:
    """``SentimentPredictor``'s surface; a class's score is how many of its keywords the text holds.

    ``strength`` scales the scores (0 knows nothing: the zero-shot twin); ``calls`` records the size of every call.
    ``after_call`` is run after each call and may raise, as a kill would stop a run there.
    """

    method_name = "label_scoring"

    def __init__(self, task: SentimentTask | None = None, *, strength: float = 2.0, manifest: Manifest | None = None):
        self.task = task or (manifest.task if manifest else SentimentTask())
        self.strength, self.manifest = strength, manifest
        self.keywords = [BAD, *[()] * (len(self.task.labels) - 2), GOOD]
        self.calls: list[int] = []
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

    def zero_shot(self) -> KeywordPredictor:
        twin = KeywordPredictor(self.task, strength=0.0)
        twin.after_call = self.after_call
        return twin


def write_adapter(
    folder: Path, data: dict | None = None, task: SentimentTask | None = None, weights: bytes = b"not weights"
) -> Manifest:
    """A sealed adapter folder that ``load_manifest`` accepts; its weights are not weights."""
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
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
    return load_manifest(folder)
