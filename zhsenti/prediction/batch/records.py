"""Rows as questions, windows of them through the predictor, one result a row: in order, and never fewer than rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zhsenti.core.errors import DataError, ModelError, ZhsentiError, first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zhsenti.data.formats import Row
    from zhsenti.data.read import Source
    from zhsenti.prediction.predictor import Prediction

WINDOW_ROWS = 512
WINDOW_CHARACTERS = 2_000_000  # few long texts fill a window too: they are held at once


class BatchPredictor(Protocol):
    """What is used of ``SentimentPredictor``."""

    def predict_batch(self, texts: Sequence[str], aspects: Sequence[str] | None = None) -> list[Prediction]: ...


@dataclass(frozen=True)
class Question:
    """What a data row asks: its text (and aspect), or why there is none to predict (``error``, Chinese)."""

    text: str = ""
    aspect: str | None = None
    error: str = ""


class Result(NamedTuple):
    """What a data row got.

    scores  probabilities in label order;  truncated  as in ``Prediction``;  with an ``error`` (Chinese) both are None.
    """

    scores: tuple[float, ...] | None
    truncated: bool | None
    error: str | None = None


@dataclass(frozen=True)
class Columns:
    """Keys into ``Row.values`` of one source; ``constant``  the aspect of all rows."""

    text: Any
    aspect: Any = None
    constant: str | None = None

    def question(self, source: Source, row: Row) -> Question:
        found, error = ("", row.error) if row.error else source.text(row, self.text)
        about = self.constant
        if not error and self.aspect is not None:
            about, error = source.cell(row, self.aspect, "方面")
        return Question("", None, error) if error else Question(found, about)


def windows(questions: Iterable[Question | None]) -> Iterator[list[Question]]:
    """What is scored in one call: a pure function of the questions, so that results are too.

    None among them says that the next one is not there yet (a pipe): the window ends before it.
    """
    waiting: list[Question] = []
    characters = 0
    for question in questions:
        if question is not None:
            waiting.append(question)
            characters += len(question.text)
        if waiting and (question is None or len(waiting) >= WINDOW_ROWS or characters >= WINDOW_CHARACTERS):
            yield waiting
            waiting, characters = [], 0
    if waiting:
        yield waiting


def score_window(predictor: BatchPredictor, window: Sequence[Question]) -> list[Result]:
    """One result a question, in order. A text that the predictor fails on costs its own row.

    Raises ZhsentiError or OSError when the fault is not the text's.
    """
    asked = [question for question in window if not question.error]
    try:
        results: Iterator[Prediction | str] = iter(_predict(predictor, asked))
    except Exception as error:
        if _concerns_all(error):
            raise
        alone = [_alone(predictor, question) for question in asked]
        plain = Question("很好", asked[0].aspect)
        failed = [*alone, _alone(predictor, plain)]
        if not isinstance(error, DataError) and all(isinstance(one, str) for one in failed):  # it is not the texts
            raise ModelError(
                "模型对每一行都失败",
                found=f"{type(error).__name__}：{first_line(error)}",
                todo="不是文本的问题：显卡或内存可能出了故障，用 zhsenti doctor 查；仍不行就报告这条消息。",
            ) from error
        results = iter(alone)
    return [_result(question.error or next(results)) for question in window]


def _result(found: Prediction | str) -> Result:
    if isinstance(found, str):
        return Result(None, None, found)
    return Result(tuple(found.scores.values()), found.truncated)


def _predict(predictor: BatchPredictor, asked: list[Question]) -> list[Any]:
    if not asked:
        return []
    aspects = [question.aspect for question in asked if question.aspect is not None]
    return predictor.predict_batch([question.text for question in asked], aspects or None)


def _alone(predictor: BatchPredictor, question: Question) -> Any:
    try:
        return _predict(predictor, [question])[0]
    except Exception as error:
        if _concerns_all(error):
            raise
        why = error.problem if isinstance(error, DataError) else f"{type(error).__name__} {error}".strip()
        return f"预测失败：{why[:200]}"


def _concerns_all(error: Exception) -> bool:
    """A setting, the model or the disk: it would be the same for every row."""
    return isinstance(error, OSError) or (isinstance(error, ZhsentiError) and not isinstance(error, DataError))
