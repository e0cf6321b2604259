"""What one text got, for whoever shows, stores or sends it: no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """What one text got.

    Attributes:
        label: The likeliest label.
        confidence: Its probability.
        scores: Every label's probability, in label order.
        tokens: Length of the prompt before any cut.
        truncated: Whether part of the text was not read.
    """

    label: str
    confidence: float
    scores: dict[str, float]
    tokens: int
    truncated: bool

    @classmethod
    def of(cls, labels: Sequence[str], probabilities: Iterable[float], tokens: int, truncated: bool) -> Prediction:
        """The result of a text whose labels have these probabilities, one each; of equal ones the first label wins."""
        scores = {label: float(p) for label, p in zip(labels, probabilities, strict=True)}
        label = max(scores, key=scores.__getitem__)
        return cls(label, scores[label], scores, tokens, truncated)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
