"""Places in the line of requests, and what a text costs.

A request is admitted (or refused at once) by what it will cost at most, in tokens, before anything is tokenised. Its
ticket stays at its place in the line until it is answered, given up or out of time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from zhsenti.serving.schema import ServiceError
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from zhsenti.artifact import Manifest
    from zhsenti.prediction.result import Prediction

CHARACTERS_READ_PER_TOKEN = 256  # reading a text that will be cut costs time and memory too, though no forward pass


class Predictor(Protocol):
    """What is served: a ``SentimentPredictor``, or something with the same surface."""

    task: SentimentTask
    manifest: Manifest | None

    @property
    def method_name(self) -> str:
        """Its method's name, for the list of models."""

    def predict_batch(self, texts: Sequence[str], aspects: Sequence[str] | None = None, /) -> Sequence[Prediction]:
        """One result a text, in order."""


def costs(task: SentimentTask, texts: Sequence[str], aspects: Sequence[str] | None = None) -> list[int]:
    """Tokens that scoring each text takes, at most in all but odd cases, without tokenising it."""
    template, slots = len(task.template), task.template.count("{aspect}")
    pairs = zip(texts, aspects or [""] * len(texts), strict=True)
    lengths = [len(text) + slots * len(aspect) for text, aspect in pairs]
    return [min(template + length, task.max_length) + length // CHARACTERS_READ_PER_TOKEN for length in lengths]


@dataclass
class Item:
    """One text of a call; ``index`` is its place among them."""

    text: str
    aspect: str | None
    tokens: int
    index: int


class Ticket:
    """One request's place in the line.

    Attributes:
        model: Name of the model that it asks.
        reserved: Tokens that it may still ask for or have computed.
        deadline: When it has waited long enough, on the monotonic clock.
        waiting: Texts that are not computed yet.
        since: When they began to wait.
        results: Of the texts of the last call, None where there is none yet.
        missing: How many there are not yet.
        future: Of the last call.
    """

    def __init__(self, model: str, reserved: int, deadline: float) -> None:
        self.model, self.reserved, self.deadline = model, reserved, deadline
        self.waiting: deque[Item] = deque()
        self.since = 0.0
        self.results: list[Prediction | None] = []
        self.missing = 0
        self.future: Future[list[Prediction]] | None = None

    def fail(self, error: ServiceError) -> None:
        """What has not been answered will not be: its waiter gets ``error``."""
        self.waiting.clear()
        if self.future and not self.future.done():
            self.future.set_exception(error)


class Rate:
    """Tokens a second over the last batches, the latest counting most."""

    KEEP = 0.8

    def __init__(self) -> None:
        self.tokens = self.time = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """A batch of ``tokens`` took so long."""
        self.tokens = self.KEEP * self.tokens + tokens
        self.time = self.KEEP * self.time + seconds

    def seconds(self, tokens: int) -> float:
        """How long ``tokens`` will take; 0 before anything was measured."""
        return tokens * self.time / self.tokens if self.tokens else 0.0
