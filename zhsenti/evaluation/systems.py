"""What is compared: the adapter under test, other adapters, and baselines, each as a ``System`` that gives scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from zhsenti.data.split import Example
    from zhsenti.models.precision import Precision

ADAPTER = "adapter"  # the name of the system under test
NEGATIVE = ("负面", "负向", "消极", "差评", "negative", "neg")
POSITIVE = ("正面", "正向", "积极", "好评", "positive", "pos")

Identity = Mapping[str, object]  # JSON values


class Score(Protocol):
    """Class log-probabilities (N, C) in label order. ``progress`` may be told how many more texts are done."""

    def __call__(
        self,
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Score the texts, each with its aspect where the task has them."""
        ...


@dataclass(frozen=True)
class System:
    """One row of the comparison.

    Attributes:
        name: What files call it.
        title: What people call it (Chinese).
        method: How it works: trivial, naive_bayes, linear, zero_shot, or the adapter's method.
        english: The title for pictures on machines without a Chinese font; empty where the title is not Chinese.
        identity: Everything that decides its scores: the cache is keyed by it.
        prepare: Fits or loads; returns the scorer and notes (Chinese). Not called when every score is cached.
        gives_scores: Whether its log-probabilities rank rows (else no ROC-AUC).
        contaminated: Its own training texts contain test rows; ``notes`` say how many.
        notes: What to know of it (Chinese).
        not_applicable: Why it cannot run on this task or data (then it is reported, not run).
    """

    name: str
    title: str
    method: str
    english: str = ""
    identity: Identity = field(default_factory=dict)
    prepare: Callable[[], tuple[Score, list[str]]] | None = None
    gives_scores: bool = True
    contaminated: bool = False
    notes: tuple[str, ...] = ()
    not_applicable: str = ""


class Predictor(Protocol):
    """What an evaluation needs of ``SentimentPredictor``."""

    task: SentimentTask
    precision: Precision

    @property
    def log_probs(self) -> Score:
        """The scorer of texts."""
        ...

    def zero_shot(self) -> Predictor:
        """The same base without the adapter."""
        ...


@dataclass(frozen=True)
class Context:
    """What baselines are built from.

    Attributes:
        task: Labels, label words and prompt.
        train: Rows that a baseline may fit on.
        dev: Rows that it may choose its settings by.
        test: Rows that will be scored.
        predictor: The adapter under test.
        base_identity: The base model, its task, precision, machine and libraries.
    """

    task: SentimentTask
    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    predictor: Predictor
    base_identity: Identity


def adapter_system(predictor: Callable[[], Predictor], method: str, identity: Identity, number: int = 1) -> System:
    """A trained adapter as a system.

    Args:
        predictor: Loads it.
        method: Its method's name in the registry.
        identity: Its file's hash, and what else decides its scores.
        number: 1 is the adapter under test.
    """
    from zhsenti.methods import get_method  # imports torch, which takes seconds

    kind = get_method(method)
    title, english = f"{kind.title} + LoRA", f"{kind.english} + LoRA"
    return System(
        ADAPTER if number == 1 else f"{ADAPTER}_{number}",
        title if number == 1 else f"{title}（{number}）",
        method,
        english=english if number == 1 else f"{english} ({number})",
        identity={"system": "adapter", **identity},
        prepare=lambda: (predictor().log_probs, []),
    )


def polar_classes(task: SentimentTask) -> tuple[int, int] | None:
    """Class indices of negative and positive; None for a task that is not just these two."""
    negative, positive = _class_of(task, NEGATIVE), _class_of(task, POSITIVE)
    if len(task.labels) != 2 or negative is None or positive is None or negative == positive:
        return None
    return negative, positive


def _class_of(task: SentimentTask, spellings: Sequence[str]) -> int | None:
    indices = (task.label_index(spelling) for spelling in spellings)
    return next((index for index in indices if index is not None), None)


def floored_log(probabilities: np.ndarray) -> np.ndarray:
    """Natural logarithm (float32) with a floor in place of -inf, which JSON cannot hold."""
    from zhsenti.prediction.temperature import LOG_FLOOR

    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), np.exp(LOG_FLOOR))).astype(np.float32)
