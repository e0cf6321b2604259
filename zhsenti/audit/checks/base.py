"""What a check of an audit is: rows in, findings and sentences out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from zhsenti.audit.findings import LAST, Finding, Kind
from zhsenti.audit.rows import Rows
from zhsenti.task import SentimentTask

CountTokens = Callable[[Sequence[str]], list[int]]  # texts -> tokens of each
Adapter = Callable[[list[str], list[str] | None], np.ndarray]  # texts, aspects -> class log-probabilities (N, C)


@dataclass(frozen=True)
class AuditOptions:
    """How an audit is made.

    Attributes:
        count_tokens: A tokenizer; None where there is none, and tokens are estimated.
        seed: Of MinHash and of the folds.
        adapter: A trained model that reads the rows whose labels are doubted most; None without one.
        adapter_rows: How many rows it reads.
        stage: Is told the title of each check as it begins.
    """

    count_tokens: CountTokens | None = None
    seed: int = 42
    adapter: Adapter | None = None
    adapter_rows: int = 500
    stage: Callable[[str], None] = lambda title: None


class Warned(NamedTuple):
    """One sentence of the summary (Chinese).

    Attributes:
        sentence: What is wrong, with figures, and what follows from it.
        rank: How bad it is, on the scale of ``Kind.rank``; the summary begins with the lowest.
    """

    sentence: str
    rank: int = LAST


@dataclass
class Outcome:
    """What one check says.

    Attributes:
        findings: Each thing to look at; of one kind the worst first, where they are ranked.
        warnings: Sentences for the summary.
        notes: Chinese lines on the check itself, such as why it could not be made.
        fields: Fields of ``Audit`` that the check fills; checks from outside the package fill none.
    """

    findings: list[Finding] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        title: The stage's name on the progress bar (Chinese).
        kinds: The kinds of its findings.
        run: Makes the check. It must not change the rows.
    """

    title: str
    kinds: tuple[Kind, ...]
    run: Callable[[Rows, SentimentTask, AuditOptions], Outcome]


def counted(n: int, sentence: str, rank: int) -> list[Warned]:
    """``n`` and what they are as a warning; none where there are none."""
    return [Warned(f"{n} {sentence}", rank)] if n else []


def percent(n: int, total: int) -> str:
    """A share as people read it: "12.5 %"."""
    return f"{100 * n / total:.1f} %"
