"""What every JSON of an evaluation holds. Read with ``read``, written with ``write``: one typed model a file.

Conventions: shares are in [0, 1]; ``x_ci95`` is x's 95 % interval, None where it has none, and then ``reasons`` of the
same object says why (Chinese).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zhsenti.core.errors import DataError
from zhsenti.core.files import write_json
from zhsenti.prediction.explain import Unit

FORMAT = 2
Interval = tuple[float, float]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(Model):
    """One label: ``support`` rows carry it, ``predicted`` rows were given it."""

    label: str
    support: int
    predicted: int
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None


class Scores(Model):
    """One system on n rows. ``confusion``: rows are true labels, columns are predicted ones, both in label order."""

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


class Provenance(Model):
    """Where the numbers come from: enough to get them again."""

    command: str
    date: str
    quick: bool = False
    model: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]


class Slice(Model):
    """The rows whose ``column`` is ``value``: a column of the file, the text's length, or ChnSentiCorp's domain.

    ``p_holm``: Fisher's exact test against the rows of the other values, after Holm's correction over all slices (None
    for a column's only value);  ``worse``: p_holm < 0.05 and less accurate than the others.
    """

    column: str
    value: str
    n: int
    accuracy: float
    accuracy_ci95: Interval
    p_holm: float | None
    worse: bool


class MetricsFile(Model):
    """metrics.json: the adapter on all test rows (official) and on those whose text is in no training row (leak_free).

    leaks_checked  False: some training data could not be found, so leak_free may hold rows that were trained on
    slices         of the leak-free rows, or of all where there are none.
    """

    format: int = FORMAT
    method: str
    labels: list[str]
    official: Scores
    leak_free: Scores | None
    leaks_checked: bool
    slices: list[Slice] = Field(default_factory=list)
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


class SystemScores(Model):
    """One system on the same rows as all others. Both scores are None where it does not apply; ``notes`` say why.

    ``seconds`` is scoring alone, as measured when each chunk was computed; ``prepare_seconds`` is fitting or loading.
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


class Difference(Model):
    """Accuracy of a minus accuracy of b on n rows: paired bootstrap interval, exact McNemar p.

    ``only_a`` rows are right in a alone, ``only_b`` in b alone.
    """

    n: int
    difference: float
    ci95: Interval
    p_value: float
    only_a: int
    only_b: int

    def turned(self) -> Self:
        """The same seen from b."""
        low, high = self.ci95
        update = {
            "difference": -self.difference,
            "ci95": (-high, -low),
            "only_a": self.only_b,
            "only_b": self.only_a,
        }
        return self.model_copy(update=update)


class Pair(Difference):
    """Official rows; ``leak_free`` says the same of the clean ones.

    basis   which of the two decides: leak_free where such rows exist
    p_holm  the basis' p-value after Holm's correction over all pairs;  real  p_holm < 0.05.
    """

    a: str
    b: str
    basis: Literal["official", "leak_free"]
    p_holm: float
    real: bool
    contaminated: bool
    leak_free: Difference | None

    def turned(self) -> Self:
        leak_free = self.leak_free.turned() if self.leak_free else None
        return super().turned().model_copy(update={"a": self.b, "b": self.a, "leak_free": leak_free})

    @property
    def decisive(self) -> Difference:
        """The difference on the rows that decide."""
        return self.leak_free if self.basis == "leak_free" and self.leak_free else self

    def readable(self) -> Self:
        """With the adapter under test first where it takes part, else the better system."""
        first = self.a == "adapter" or (self.b != "adapter" and self.decisive.difference >= 0)
        return self if first else self.turned()


class ComparisonFile(Model):
    """baseline_comparison.json."""

    format: int = FORMAT
    labels: list[str]
    n_official: int
    n_leak_free: int
    systems: list[SystemScores]
    pairs: list[Pair] = Field(default_factory=list)
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


class Bin(Model):
    """Rows of neighbouring confidence: their mean confidence and their accuracy."""

    n: int
    low: float
    high: float
    confidence: float
    accuracy: float
    accuracy_ci95: Interval


class Quality(Model):
    """How far probabilities can be believed. ece: equal-mass bins; brier: over all classes, in [0, 2]; log_loss: nats.

    mean_confidence against accuracy says in which direction they are off. ece_chance: the ECE that chance alone gives
    perfectly calibrated probabilities like these on as many rows, mean and 95 % quantile.
    """

    ece: float
    ece_ci95: Interval
    ece_chance: tuple[float, float]
    brier: float
    log_loss: float
    mean_confidence: float
    accuracy: float
    bins: list[Bin]


class CoveragePoint(Model):
    """Of rows in order of confidence the first ``coverage`` are decided by the machine: how many of them are right."""

    coverage: float
    threshold: float
    n: int
    accuracy: float
    accuracy_ci95: Interval


class Target(Model):
    """Threshold on confidence, chosen on dev, and what it gives on test rows.

    outcome    reached: test's precision is at the target;  near: below, but within its interval;  missed: below it;
               unreachable: no threshold on dev reaches it;  unknown: too few dev rows to tell
    to_person  share of test rows under the threshold.
    """

    precision: float
    threshold: float | None
    outcome: Literal["reached", "near", "missed", "unreachable", "unknown"]
    n_dev_accepted: int
    dev_precision: float | None
    dev_precision_ci95: Interval | None
    n_accepted: int
    test_precision: float | None
    test_precision_ci95: Interval | None
    to_person: float | None
    note: str = ""


class LeakFreeConfidence(Model):
    """The same on the clean rows."""

    n: int
    before: Quality
    after: Quality


class ConfidenceFile(Model):
    """confidence_analysis.json. Temperature is fitted on dev rows whose text is in no training and no test row."""

    format: int = FORMAT
    n: int
    temperature: float
    temperature_ci95: Interval | None
    n_fit: int
    stored_in_adapter: bool
    ece_before: float
    ece_after: float
    before: Quality
    after: Quality
    leak_free: LeakFreeConfidence | None
    coverage: list[CoveragePoint]
    target: Target
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


class Category(Model):
    """Items of one kind in the challenge set. ``accuracy`` is None for kinds that are not scored.

    ``predicted``: how often each label was given.
    """

    title: str
    n: int
    scored: bool
    accuracy: float | None
    accuracy_ci95: Interval | None
    mean_confidence: float
    predicted: dict[str, int]


class Challenge(Model):
    """n, accuracy: scored items;  by_half: tuning half and held-out half;  systems: name -> accuracy of the others."""

    n: int
    accuracy: float
    accuracy_ci95: Interval
    n_unscored: int
    by_category: dict[str, Category]
    by_half: dict[str, Category]
    systems: dict[str, float] = Field(default_factory=dict)
    sha256: str


class FlipRate(Model):
    """Share of n changed test rows whose predicted label is another than before the change.

    accuracy_before, accuracy_after: on the same rows;  example: the first flipped row, original and changed.
    """

    title: str
    rate: float
    ci95: Interval
    n: int
    accuracy_before: float
    accuracy_after: float
    example: tuple[str, str] | None


class RobustnessFile(Model):
    """robustness_result.json. ``challenge`` is None for tasks that are not negative/positive; ``notes`` say so."""

    format: int = FORMAT
    challenge: Challenge | None
    flip_rate: dict[str, FlipRate]
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


class ExplainedError(Model):
    """A test row that was judged wrongly, with confidence, and what the judgement hung on."""

    row: int
    text: str
    label: str
    predicted: str
    confidence: float
    leak_free: bool
    clauses: list[Unit]
    words: list[Unit]


class ErrorsFile(Model):
    """errors.json: the worst errors (highest confidence first), explained."""

    format: int = FORMAT
    n_errors: int
    errors: list[ExplainedError]


M = TypeVar("M", bound=Model)


def write(path: Path, values: Model) -> None:
    write_json(path, values.model_dump(mode="json"))


def read(path: Path, kind: type[M]) -> M:
    """Raises DataError when the file is not one that ``write`` wrote as ``kind``."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise DataError(f"读不了评估结果 {path}", found=str(error)[:200], todo="重新运行评估。") from error
