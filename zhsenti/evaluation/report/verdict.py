"""The report's first screen: what the sections say of the whole, the weak points worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zhsenti.evaluation.sections.base import CAUTION, GOOD, AnySection, Fact, Headline

NO_HEADLINE = Headline(CAUTION, "这次评估没有给出总的结论。")


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        tone: good, caution or bad.
        headline: The first sentence (Chinese).
        facts: Figures that matter most.
        weak: What a person must know before using the adapter, worst first.
        advice: How to use it.
    """

    tone: str
    headline: str
    facts: list[Fact] = field(default_factory=list)
    weak: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def verdict(sections: Sequence[AnySection]) -> Verdict:
    """What ``sections``, which have been computed, say together."""
    headline = next((line for line in (section.headline() for section in sections) if line), NO_HEADLINE)
    points = sorted((point for section in sections for point in section.weak_points()), key=lambda point: point.rank)
    tone, sentence = headline.tone, headline.sentence
    if tone == GOOD and points:
        tone, sentence = CAUTION, sentence + "上线前先看下面的弱点。"
    return Verdict(
        tone,
        sentence,
        facts=[fact for section in sections for fact in section.facts()],
        weak=[point.sentence for point in points],
        advice=[advice for section in sections for advice in section.advice()],
    )
