"""What a judgement hangs on: leave out one clause or one Chinese word, score again, and see how far the label falls.

Occlusion (Zeiler & Fergus 2014) of stretches of text, or leave-one-out (Li, Monroe & Jurafsky 2016). Units are clauses
and words as a reader sees them, not the model's BPE pieces. With k the predicted label and x the text,

    effect(u) = logit p(k | x) − logit p(k | x without u),    logit p = log p − log(1 − p)

so u speaks for the label where its effect is positive. Effects of words need not add up to that of their clause.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict

from zhsenti.data.text import is_blank, readable
from zhsenti.prediction.temperature import log_odds

MAX_CLAUSES = 48  # units of either kind that are scored: what one explanation may cost, however long the text
MAX_WORDS = 48
NOTHING = "…"  # what is scored for a text of which nothing is left: predictors refuse blank ones

Span = tuple[int, int]  # start and end in characters
Score = Callable[[Sequence[str], "Sequence[str] | None"], np.ndarray]  # texts, aspects -> log-probabilities (N, C)

# A clause ends after these marks, their closing quotes and spaces. A comma or point between digits does not end one,
# a space does between two Han characters, where people write it instead of a mark.
_CLAUSE_END = re.compile(
    r"(?:[，。！？；：、…!?;\n\r\t\u3000]|[,.:](?!\d)|(?<=[一-鿿]) +(?=[一-鿿]))[，。！？；：、…!?;,.:”’」』）)】》\s]*"
)


class Unit(BaseModel):
    """A stretch of the text.

    Attributes:
        start: Its first character.
        end: The character behind its last one.
        text: text[start:end].
        effect: By how much the log-odds of the predicted label fall when it is left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int
    end: int
    text: str
    effect: float


class Explanation(BaseModel):
    """The units of one text and their effects.

    Attributes:
        clauses: In text order.
        words: In text order; of a long text those of its most influential clauses only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clauses: list[Unit]
    words: list[Unit]


@dataclass(frozen=True)
class Variants:
    """One text without one unit, for each of its units.

    Attributes:
        text: The whole text.
        spans: The units.
    """

    text: str
    spans: list[Span]

    @property
    def texts(self) -> list[str]:
        """``texts[i]`` is ``text`` without ``spans[i]``."""
        rests = [self.text[:start] + self.text[end:] for start, end in self.spans]
        return [NOTHING if is_blank(rest) else rest for rest in rests]


def explain(text: str, score: Score, aspect: str | None = None, *, predicted: int | None = None) -> Explanation:
    """Explain one text, by its clauses and by its words.

    Args:
        text: The text.
        score: Class log-probabilities (N, C) of N texts and their aspects (None: the task has none). Called twice.
        aspect: The aspect that the text is judged for.
        predicted: Number of the label whose log-odds are explained; by default the likeliest one.

    Returns:
        Clauses and words with their effects.
    """

    def scored(texts: list[str]) -> np.ndarray:
        return np.asarray(score(texts, None if aspect is None else [aspect] * len(texts)))

    by_clause = clause_variants(text)
    base, *without_clause = scored([text, *by_clause.texts])
    best = int(base.argmax()) if predicted is None else predicted
    clause_units = effects(by_clause, base, np.array(without_clause), best)
    by_word = word_variants(text, clause_units)
    without_word = scored(by_word.texts) if by_word.spans else np.empty((0, len(base)))
    return Explanation(clauses=clause_units, words=effects(by_word, base, without_word, best))


def clause_variants(text: str) -> Variants:
    """The text without each of its clauses; where there are very many, neighbours go together."""
    spans = [span for span in clauses(text) if _is_unit(text, span)]
    step = -(-len(spans) // MAX_CLAUSES) or 1
    groups = [spans[i : i + step] for i in range(0, len(spans), step)]
    return Variants(text, [(group[0][0], group[-1][1]) for group in groups])


def word_variants(text: str, clause_units: Sequence[Unit], max_words: int = MAX_WORDS) -> Variants:
    """The text without each of its words.

    Args:
        text: The text.
        clause_units: Its clauses and their effects.
        max_words: How many words at most. Of a longer text they are taken from its most influential clause, then from
            the next one, and so on.
    """
    spans = word_units(text)
    if len(spans) > max_words:
        ranked = sorted(clause_units, key=lambda unit: -abs(unit.effect))
        within = [span for unit in ranked for span in spans if unit.start <= span[0] < unit.end]
        spans = sorted(within[:max_words])
    return Variants(text, spans)


def effects(variants: Variants, base: np.ndarray, without: np.ndarray, predicted: int) -> list[Unit]:
    """The units that were left out, with their effects.

    Args:
        variants: N variants of a text.
        base: Class log-probabilities (C,) of the whole text.
        without: Class log-probabilities (N, C) of the variants.
        predicted: Number of the label whose log-odds are compared.
    """
    if not variants.spans:
        return []
    fall = log_odds(base, predicted) - log_odds(without, predicted)
    text = readable(variants.text)
    return [
        Unit(start=start, end=end, text=text[start:end], effect=float(effect))
        for (start, end), effect in zip(variants.spans, fall, strict=True)
    ]


def clauses(text: str) -> list[Span]:
    """Spans that tile the text, cut after clause marks and line ends; marks belong to the clause before them."""
    ends = [match.end() for match in _CLAUSE_END.finditer(text)]
    return _between([0, *ends, len(text)])


def words(text: str) -> list[Span]:
    """Spans of jieba's words that tile the text."""
    import rjieba

    return _between([0, *(end for _, _, end in rjieba.tokenize(readable(text))), len(text)])


def word_units(text: str) -> list[Span]:
    """The words that can be taken out: those that are more than punctuation and space."""
    return [span for span in words(text) if _is_unit(text, span)]


def _between(cuts: list[int]) -> list[Span]:
    return [(start, end) for start, end in pairwise(cuts) if start < end]


def _is_unit(text: str, span: Span) -> bool:
    categories = {unicodedata.category(c) for c in text[span[0] : span[1]]}
    return any(c[0] not in "PZM" and c not in ("Cc", "Cf") for c in categories)
