"""A file in, one record a data row out: in order, in constant memory, and never fewer records than rows."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from zhsenti.data.read import Source
from zhsenti.data.tables import csv_safe
from zhsenti.errors import DataError, ModelError, ZhsentiError, first_line
from zhsenti.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zhsenti.prediction.predictor import Prediction

WINDOW_ROWS = 512
WINDOW_CHARACTERS = 2_000_000  # few long texts fill a window too: they are held at once
ENDINGS = (".jsonl", ".csv")


class BatchPredictor(Protocol):
    """What is used of ``SentimentPredictor``."""

    def predict_batch(self, texts: Sequence[str], aspects: Sequence[str] | None = None) -> list[Prediction]: ...


@dataclass(frozen=True)
class Question:
    """One data row: its text (and aspect), or why there is none to predict."""

    row: int
    line: int | None
    text: str = ""
    aspect: str | None = None
    error: str = ""


@dataclass(frozen=True)
class Record:
    """One data row's result. row, line  as in ``Row``;  tokens, truncated  as in ``Prediction``.

    With an ``error`` (Chinese) there is no label, and what cannot be known is None.
    """

    row: int
    line: int | None
    text: str | None = None
    label: str | None = None
    probability: float | None = None
    scores: dict[str, float] | None = None
    tokens: int | None = None
    truncated: bool | None = None
    error: str | None = None


def questions(source: Source, text: Any, aspect: Any = None, constant: str | None = None) -> Iterator[Question]:
    """Rows of ``source`` as questions. ``text``, ``aspect``: keys of columns; ``constant``: the aspect of all rows."""
    for row in source.rows:
        found, error = ("", row.error) if row.error else source.text(row, text)
        about = constant
        if not error and aspect is not None:
            about, error = source.cell(row, aspect, "方面")
        yield Question(row.number, row.line, "" if error else found, about, error)


def predict_rows(predictor: BatchPredictor, rows: Iterable[Question], window: int = WINDOW_ROWS) -> Iterator[Record]:
    """One record a question, in order, ``window`` at most in memory.

    A text that the predictor fails on costs its own record. Raises ZhsentiError when the fault is not the text's.
    """
    waiting: list[Question] = []
    characters = 0
    for question in rows:
        waiting.append(question)
        characters += len(question.text)
        if len(waiting) >= window or characters >= WINDOW_CHARACTERS:
            yield from _answer(predictor, waiting)
            waiting, characters = [], 0
    yield from _answer(predictor, waiting)


def _answer(predictor: BatchPredictor, waiting: list[Question]) -> Iterator[Record]:
    asked = [question for question in waiting if not question.error]
    try:
        results: Iterator[Prediction | str] = iter(_predict(predictor, asked))
    except Exception as error:
        if _concerns_all(error):
            raise
        alone = [_alone(predictor, question) for question in asked]
        plain = Question(0, None, "很好", asked[0].aspect)
        failed = [*alone, _alone(predictor, plain)]
        if not isinstance(error, DataError) and all(isinstance(one, str) for one in failed):  # it is not the texts
            raise ModelError(
                "模型对每一行都失败",
                found=f"{type(error).__name__}：{first_line(error)}",
                todo="不是文本的问题：显卡或内存可能出了故障，用 zhsenti doctor 查；仍不行就报告这条消息。",
            ) from error
        results = iter(alone)
    for question in waiting:
        result = question.error or next(results)
        if isinstance(result, str):
            yield Record(question.row, question.line, error=result)
        else:
            yield Record(question.row, question.line, question.text, **asdict(result))


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


# ── output ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def record_writer(path: Path, labels: Sequence[str]) -> Iterator[Callable[[Record], None]]:
    """A function that writes a record to ``path`` (.jsonl, .csv), which appears whole when the block ends well."""
    as_csv = path.suffix.lower() == ".csv"
    encoding, newline = ("utf-8-sig", "") if as_csv else ("utf-8", "\n")
    with replacing(path) as temporary, temporary.open("w", encoding=encoding, newline=newline) as stream:
        yield _csv_writer(stream, labels) if as_csv else lambda record: print(json_line(record), file=stream)
        stream.flush()
        os.fsync(stream.fileno())


def _csv_writer(stream: IO[str], labels: Sequence[str]) -> Callable[[Record], None]:
    """One column a label for the scores; no cell is run as a formula."""
    writer = csv.writer(stream)
    plain = [name for name in Record.__dataclass_fields__ if name != "scores"]
    writer.writerow([*plain[:5], *(csv_safe(f"score_{label}") for label in labels), *plain[5:]])

    def write(record: Record) -> None:
        cells = [csv_safe(getattr(record, name)) for name in plain]
        scores = [record.scores[label] if record.scores else "" for label in labels]
        writer.writerow([*cells[:5], *scores, *cells[5:]])

    return write


def json_line(record: Record) -> str:
    """One line to every reader, and valid UTF-8 whatever the text: lone surrogates become "?"."""
    return json.dumps(asdict(record), ensure_ascii=False).encode("utf-8", "replace").decode().translate(_LINE_ENDS)


_LINE_ENDS = {end: f"\\u{end:04x}" for end in (0x85, 0x2028, 0x2029)}  # to some readers; JSON leaves them as they are
