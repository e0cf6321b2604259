"""Rows as questions, windows of them through the predictor, one result a row: in order, and never fewer than rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zhsenti.core.errors import DataError, MemoryShortError, ModelError, ZhsentiError, first_line
from zhsenti.data.read import ASPECT_NAMES, TEXT_NAMES
from zhsenti.models.failures import naming_device_loss

if TYPE_CHECKING:
    from zhsenti.data.formats import Row
    from zhsenti.data.read import Source
    from zhsenti.prediction.predictor import Prediction

WINDOW_ROWS = 512
WINDOW_CHARACTERS = 2_000_000  # few long texts fill a window too: they are held at once

Key = str | int  # what a row's values are looked up by: a JSON object's key, a table's column
Progress = Callable[[int], None]  # told how many more texts are scored


class BatchPredictor(Protocol):
    """What is used of ``SentimentPredictor``."""

    def predict_batch(
        self, texts: Sequence[str], aspects: Sequence[str] | None = None, *, progress: Progress | None = None
    ) -> list[Prediction]:
        """One result a text, in order; ``progress`` is told after each forward pass."""
        ...


@dataclass(frozen=True)
class Question:
    """What a data row asks.

    Attributes:
        text: Its text.
        aspect: The aspect that the text is judged for, where the task has any.
        error: Why there is no text to predict (Chinese), or "".
    """

    text: str = ""
    aspect: str | None = None
    error: str = ""


class Result(NamedTuple):
    """What a data row got.

    Attributes:
        scores: Probabilities in label order; None with an error.
        truncated: As in ``Prediction``; None with an error.
        error: Why there are no scores (Chinese).
    """

    scores: tuple[float, ...] | None
    truncated: bool | None
    error: str | None = None


class Window(NamedTuple):
    """What is scored in one call.

    Attributes:
        file: Number of the input, from 0.
        start: That input's data row where the window begins, from 0.
        questions: Of consecutive rows.
    """

    file: int
    start: int
    questions: list[Question]


@dataclass(frozen=True)
class Columns:
    """Where a source's rows hold what is asked.

    Attributes:
        text: Key of the text.
        aspect: Key of the aspect, None where no column holds one.
        constant: The aspect of all rows, where no column holds one.
    """

    text: Key
    aspect: Key | None = None
    constant: str | None = None

    def question(self, source: Source, row: Row) -> Question:
        """What ``row`` of ``source`` asks."""
        text, error = ("", row.error) if row.error else source.text(row, self.text)
        aspect = self.constant
        if not error and self.aspect is not None:
            aspect, error = source.cell(row, self.aspect, "方面")
        return Question("", None, error) if error else Question(text, aspect)


def find_columns(source: Source, text: str, aspect: str | None, constant: str | None) -> Columns:
    """Look the asked columns up in one source.

    Args:
        source: One of the inputs.
        text: Name of the text column.
        aspect: Name of the aspect column, None where there is none.
        constant: The aspect of all rows.

    Returns:
        Their keys into the rows of ``source``.

    Raises:
        DataError: The source has no such column.
    """
    return Columns(
        source.column(text, TEXT_NAMES, "文本", "--text_column"),
        source.column(aspect, ASPECT_NAMES, "方面", "--aspect_column") if aspect is not None else None,
        constant,
    )


def windows(questions: Iterable[Question | None]) -> Iterator[list[Question]]:
    """Cut questions into what is scored in one call: a function of the questions alone, so that results are too.

    Args:
        questions: In order. None among them says that the next one is not there yet (a pipe): the window ends here.

    Yields:
        At most ``WINDOW_ROWS`` consecutive questions, fewer where their texts are long.
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


def windows_of_rows(
    rows: Iterable[Row | None], source: Source, columns: Columns
) -> Iterator[tuple[list[Row], list[Question]]]:
    """``windows`` of the questions of ``rows`` (None: the next one is not there yet), each with its rows."""
    held = deque["Row"]()

    def questions() -> Iterator[Question | None]:
        for row in rows:
            if row is not None:
                held.append(row)
            yield None if row is None else columns.question(source, row)

    for window in windows(questions()):
        yield [held.popleft() for _ in window], window


def score_window(
    predictor: BatchPredictor, window: Sequence[Question], progress: Progress | None = None
) -> list[Result]:
    """Score one window. A text that the predictor fails on costs its own row.

    Args:
        predictor: What scores.
        window: The questions; those with an error are not scored.
        progress: Told after each forward pass how many texts it did.

    Returns:
        One result a question, in order.

    Raises:
        ZhsentiError: The fault is not a text's: a setting, the model, a lost GPU, memory that holds no text at all.
        OSError: The disk's, say.
    """
    asked = [question for question in window if not question.error]
    results: Sequence[Prediction | str] = []
    failure: ZhsentiError | None = None
    try:
        results = _predict(predictor, asked, progress)
    except Exception as error:
        if _concerns_all(error):
            raise
        failure = _on_every_row(error)
    if failure:  # not inside except: the error may hold the memory of the pass that failed
        results = _one_by_one(predictor, asked, failure)
    answers = iter(results)
    return [_result(question.error or next(answers)) for question in window]


def _one_by_one(predictor: BatchPredictor, asked: Sequence[Question], failure: ZhsentiError) -> list[Prediction | str]:
    """Each question by itself; raises ``failure`` where it turns out that no text is to blame."""
    plain = _alone(predictor, Question("很好", asked[0].aspect))
    if isinstance(plain, str) and isinstance(failure, MemoryShortError):  # longer ones would take long to fail too
        raise failure
    results = [_alone(predictor, question) for question in asked]
    if not isinstance(failure, DataError) and all(isinstance(one, str) for one in [plain, *results]):
        raise failure
    return results


def _on_every_row(error: Exception) -> ZhsentiError:
    """What ``error`` means if every row fails; without its traceback, which holds memory."""
    if isinstance(error, (DataError, MemoryShortError)):
        return error.with_traceback(None)
    return ModelError(
        "模型对每一行都失败",
        found=f"{type(error).__name__}：{first_line(error)}",
        todo="不是文本的问题：显卡或内存可能出了故障，用 zhsenti doctor 查；仍不行就报告这条消息。",
    )


def _result(answer: Prediction | str) -> Result:
    if isinstance(answer, str):
        return Result(None, None, answer)
    return Result(tuple(answer.scores.values()), answer.truncated)


def _predict(
    predictor: BatchPredictor, asked: Sequence[Question], progress: Progress | None = None
) -> list[Prediction]:
    if not asked:
        return []
    aspects = [question.aspect for question in asked if question.aspect is not None]
    with naming_device_loss():
        return predictor.predict_batch([question.text for question in asked], aspects or None, progress=progress)


def _alone(predictor: BatchPredictor, question: Question) -> Prediction | str:
    """The prediction, or why there is none (Chinese)."""
    try:
        return _predict(predictor, [question])[0]
    except Exception as error:
        if _concerns_all(error):
            raise
        if isinstance(error, MemoryShortError):
            why = f"{error.problem}。{error.todo}"
        else:
            why = error.problem if isinstance(error, DataError) else f"{type(error).__name__} {error}".strip()
        return f"预测失败：{why[:200]}"


def _concerns_all(error: Exception) -> bool:
    """A setting, the model, the disk or a lost GPU: it would be the same for every row."""
    of_a_row = isinstance(error, (DataError, MemoryShortError))
    return isinstance(error, OSError) or (isinstance(error, ZhsentiError) and not of_a_row)
