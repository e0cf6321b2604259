"""One evaluation: what was asked, the rows, the systems, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.artifact import Artifact, Manifest
from zhsenti.core.console import Progress
from zhsenti.core.paths import user_path
from zhsenti.evaluation.compare import Compared
from zhsenti.evaluation.config import EvalConfig
from zhsenti.evaluation.rows import EvalData
from zhsenti.evaluation.schema import Provenance, Scores, SystemScores
from zhsenti.evaluation.scoring import EvalRows, score_rows
from zhsenti.evaluation.systems import ADAPTER, System
from zhsenti.prediction.temperature import scale

if TYPE_CHECKING:
    from zhsenti.data.split import Example


@dataclass(frozen=True)
class Run:
    """What every section of an evaluation works on.

    Attributes:
        config: What the user asked for.
        artifact: The adapter under test.
        precision: What it computed in, whatever it was trained in and asked for.
        data: The rows, and where they are from.
        rows: The test rows as they are scored.
        systems: All that are compared, the adapter under test among them.
        compared: Their scores on the test rows.
        provenance: Goes into every JSON.
    """

    config: EvalConfig
    artifact: Artifact
    precision: str
    data: EvalData
    rows: EvalRows
    systems: list[System]
    compared: Compared
    provenance: Provenance

    @property
    def manifest(self) -> Manifest:
        """What the adapter's folder says of itself."""
        return self.artifact.manifest

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return user_path(self.config.output_dir)

    @property
    def cache(self) -> Path:
        """Where scores are kept for the next run."""
        return self.folder / "cache"

    @property
    def adapter(self) -> System:
        """The adapter under test."""
        return next(system for system in self.systems if system.name == ADAPTER)

    @property
    def titles(self) -> dict[str, str]:
        """Name of each system -> what people call it."""
        return {system.name: system.title for system in self.systems}

    @property
    def scores(self) -> SystemScores:
        """Of the adapter under test."""
        return next(item for item in self.compared.systems if item.name == ADAPTER)

    @property
    def official(self) -> Scores:
        """The adapter's scores on all test rows."""
        assert self.scores.official is not None  # the adapter always applies
        return self.scores.official

    @property
    def main(self) -> Scores:
        """The adapter's scores that decide: on the leak-free rows where there are any."""
        return self.scores.leak_free or self.official

    @property
    def notes(self) -> list[str]:
        """What to know of the data and of the adapter's scores (Chinese)."""
        return [*self.data.notes, *self.scores.notes]

    @property
    def true(self) -> np.ndarray:
        """Classes of the test rows, (N,)."""
        return np.array([row.label for row in self.rows.examples])

    @property
    def clean(self) -> np.ndarray:
        """For each test row whether its text is in no training row, (N,)."""
        return np.array(self.rows.leak_free, dtype=bool)

    def log_probs(self, temperature: float = 1.0) -> np.ndarray:
        """The adapter's class log-probabilities of the test rows, float64 (N, C)."""
        return scale(self.compared.scored[ADAPTER].log_probs, temperature)

    def score(self, system: System, examples: Sequence[Example], title: str) -> np.ndarray:
        """Class log-probabilities (N, C) of other rows, through the cache.

        Args:
            system: What scores.
            examples: The rows; their labels do not matter.
            title: What the progress bar says (Chinese).
        """
        rows = replace(self.rows, examples=list(examples), leak_free=[True] * len(examples))
        with Progress() as progress:
            return score_rows(system, rows, self.cache, progress, title).log_probs


def confidence(log_probs: np.ndarray) -> np.ndarray:
    """The probability of each row's predicted label, (N,)."""
    return np.exp(log_probs).max(axis=1)
