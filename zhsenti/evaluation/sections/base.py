"""What a section of an evaluation is: one question about the adapter, from its figures to its part of the page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from zhsenti.evaluation.config import EvalConfig
from zhsenti.evaluation.drawing import Picture
from zhsenti.evaluation.run import Run
from zhsenti.evaluation.schema import Model

GOOD, CAUTION, BAD = "good", "caution", "bad"

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Headline:
    """The report's first sentence, and its tone: good, caution or bad."""

    tone: str
    sentence: str


@dataclass(frozen=True)
class Fact:
    """One figure of the first screen.

    Attributes:
        name: What it is of (Chinese).
        value: The figure, shown large.
        detail: Interval, n, against what: shown small.
        tone: good, caution, bad, or none.
    """

    name: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class WeakPoint:
    """What a person must know before using the adapter.

    Attributes:
        rank: Where it stands among those of all sections: the lowest is the worst and comes first.
        sentence: In Chinese, with its full stop.
    """

    rank: int
    sentence: str


class Section(ABC, Generic[R]):
    """One section; a subclass in a file of its own and a line in ``SECTIONS`` make a new one.

    ``compute`` comes first, then ``files`` are written; all the rest is asked for once every section is done.

    Args:
        run: The evaluation.
        before: The sections that are done.

    Attributes:
        run: As given.
        result: What ``compute`` gave.
        file: Name of the JSON that the result is written to; empty where there is none.
        template: Name of its part of report.html, which lies beside the class's own file. It is given ``result``,
            ``run``, ``pictures`` (name -> SVG), what ``context`` adds, and the filters percent, interval and ends.
        card_template: The same for the model card (Markdown); empty where it says nothing there.
        packages: More packages whose templates its own may include.
        always: Whether it is part of an evaluation without a report, too.
    """

    file: ClassVar[str] = ""
    template: ClassVar[str]
    card_template: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    always: ClassVar[bool] = False
    result: R

    def __init__(self, run: Run, before: Sequence[Section[Any]] = ()) -> None:
        self.run = run
        self._before = list(before)

    def find(self, kind: type[T]) -> T | None:
        """The result of this type among those of the sections before; None where there is none."""
        return next((section.result for section in self._before if isinstance(section.result, kind)), None)

    @classmethod
    def check(cls, config: EvalConfig) -> None:
        """Look for mistakes in the section's settings, before anything is loaded.

        Raises:
            ZhsentiError: There is one.
        """

    @abstractmethod
    def title(self) -> str:
        """What the console says when it begins (Chinese)."""

    @abstractmethod
    def compute(self) -> R:
        """The section's figures; scores come from ``run.score``, which computes nothing twice."""

    def files(self) -> dict[str, Model]:
        """Name -> content of the JSONs to write as soon as the result is there."""
        return {self.file: self.result} if self.file and isinstance(self.result, Model) else {}

    def show(self) -> None:
        """Say on the console what should be seen at once."""

    def headline(self) -> Headline | None:
        """The report's first sentence, from the one section that judges the whole; None from the others."""
        return None

    def facts(self) -> Iterable[Fact]:
        """Figures of the first screen."""
        return ()

    def weak_points(self) -> Iterable[WeakPoint]:
        """What a person must know before using the adapter."""
        return ()

    def advice(self) -> Iterable[str]:
        """How to use the adapter (Chinese sentences)."""
        return ()

    def pictures(self) -> dict[str, Picture]:
        """Name -> picture; each also lies as a PNG in the results."""
        return {}

    def write_tables(self) -> list[str]:
        """Write the tables that belong to the section; returns their names in the results' folder."""
        return []

    def context(self) -> dict[str, object]:
        """What its templates need besides."""
        return {}


AnySection = Section[Any]
