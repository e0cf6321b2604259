"""What the JSONs of an evaluation share; what one of them holds besides stands with the section that writes it.

Conventions: shares are in [0, 1]; ``x_ci95`` is x's 95 % interval, None where it has none, and then ``reasons`` of the
same object says why (Chinese).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from zhsenti.core.files import write_json

FORMAT = 2
Interval = tuple[float, float]


class Model(BaseModel):
    """Part of a JSON: cannot be changed, and has no other keys than these."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(Model):
    """One label.

    Attributes:
        label: The label.
        support: Rows that carry it.
        predicted: Rows that were given it.
        precision: Share of ``predicted`` that carry it.
        precision_ci95: Its Wilson interval.
        recall: Share of ``support`` that were given it.
        recall_ci95: Its Wilson interval.
    """

    label: str
    support: int
    predicted: int
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None


class Scores(Model):
    """One system on n rows.

    Attributes:
        n: Rows.
        accuracy: Share of them that are judged rightly.
        accuracy_ci95: Its Wilson interval.
        macro_f1: Mean F1 of the labels that are true or predicted somewhere.
        macro_f1_ci95: Its bootstrap interval.
        roc_auc: Area under the ROC curve, one against the rest.
        roc_auc_ci95: DeLong's interval.
        classes: Each label, in label order.
        confusion: Rows are true labels, columns are predicted ones, both in label order.
        reasons: Name of a figure -> why it is undefined or has no interval (Chinese).
    """

    n: int
    accuracy: float
    accuracy_ci95: Interval
    macro_f1: float
    macro_f1_ci95: Interval | None
    roc_auc: float | None
    roc_auc_ci95: Interval | None
    classes: list[ClassScores]
    confusion: list[list[int]]
    reasons: dict[str, str] = Field(default_factory=dict)


class SystemScores(Model):
    """One system on the same rows as all others. Both scores are None where it does not apply; ``notes`` say why.

    Attributes:
        name: What files call it.
        title: What people call it (Chinese).
        method: How it works.
        official: On all test rows.
        leak_free: On those whose text is in no training row; None where there are none.
        seconds: Of scoring alone, as measured when each chunk was computed.
        prepare_seconds: Of fitting or loading.
        rows_per_second: Speed of scoring alone.
        contaminated: Its own training texts contain test rows.
        notes: What to know of it (Chinese).
    """

    name: str
    title: str
    method: str
    official: Scores | None = None
    leak_free: Scores | None = None
    seconds: float | None = None
    prepare_seconds: float | None = None
    rows_per_second: float | None = None
    contaminated: bool = False
    notes: list[str] = Field(default_factory=list)


class Provenance(Model):
    """Where the numbers come from: enough to get them again."""

    command: str
    date: str
    quick: bool = False
    model: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]


def write(path: Path, values: Model) -> None:
    """``values`` as a JSON file that appears whole."""
    write_json(path, values.model_dump(mode="json"))
