"""Where is the adapter wrong, and what did its judgement hang on? errors.json, and tables of single rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from zhsenti.audit.findings import masked
from zhsenti.core.files import replacing
from zhsenti.data.tables import write_csv
from zhsenti.data.text import readable
from zhsenti.evaluation.run import confidence
from zhsenti.evaluation.schema import FORMAT, Model
from zhsenti.evaluation.sections.base import Section
from zhsenti.evaluation.sections.confidence import ConfidenceFile, temperature_of
from zhsenti.evaluation.systems import ADAPTER
from zhsenti.prediction import explain
from zhsenti.prediction.explain import Unit
from zhsenti.prediction.temperature import scale

UNSURE_SHARE = 5  # one row in so many goes to a person where there is no threshold

Column = list[str] | list[int] | list[float] | list[bool]


class ExplainedError(Model):
    """A test row that was judged wrongly, and what the judgement hung on.

    Attributes:
        row: Data row in its file, from 1.
        text: As it is shown.
        label: The true one.
        predicted: The one that was given.
        confidence: Its probability.
        leak_free: Whether the text is in no training row.
        clauses: What each clause does for the predicted label.
        words: What each word does for it.
    """

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


class ErrorsSection(Section[ErrorsFile]):
    """The errors in which the adapter was surest, with the clauses and words its judgement hung on."""

    file = "errors.json"
    template = "errors.html.j2"

    def title(self) -> str:
        return f"解释最严重的 {self.run.config.explain_errors} 条错误"

    @cached_property
    def _log_probs(self) -> np.ndarray:
        """Of the test rows, after the temperature, (N, C)."""
        return self.run.log_probs(temperature_of(self))

    @cached_property
    def _predicted(self) -> np.ndarray:
        return self._log_probs.argmax(axis=1)

    @cached_property
    def _confidence(self) -> np.ndarray:
        return confidence(self._log_probs)

    def compute(self) -> ErrorsFile:
        run = self.run
        wrong = np.flatnonzero(self._predicted != run.true)
        worst = wrong[np.argsort(-self._confidence[wrong], kind="stable")][: run.config.explain_errors].tolist()
        rows, labels = run.rows.examples, run.rows.labels
        clauses = self._effects(worst, [explain.clause_variants(rows[i].text) for i in worst], "分句")
        word_variants = [explain.word_variants(rows[i].text, units) for i, units in zip(worst, clauses, strict=True)]
        words = self._effects(worst, word_variants, "词")
        explained = [
            ExplainedError(
                row=rows[i].row,
                text=readable(rows[i].text),
                label=labels[rows[i].label],
                predicted=labels[int(self._predicted[i])],
                confidence=float(self._confidence[i]),
                leak_free=bool(run.clean[i]),
                clauses=clause_units,
                words=word_units,
            )
            for i, clause_units, word_units in zip(worst, clauses, words, strict=True)
        ]
        return ErrorsFile(n_errors=len(wrong), errors=explained)

    def _effects(self, rows: Sequence[int], variants: Sequence[explain.Variants], title: str) -> list[list[Unit]]:
        """What each left-out piece of each row does for the predicted label; all rows' variants are scored at once."""
        from zhsenti.data.split import Example

        examples = self.run.rows.examples
        flat = [
            Example(text, 0, examples[i].aspect)
            for i, of_row in zip(rows, variants, strict=True)
            for text in of_row.texts
        ]
        if not flat:
            return [[] for _ in variants]
        scores = scale(self.run.score(self.run.adapter, flat, f"解释错误：{title}"), temperature_of(self))
        cuts = np.cumsum([0, *(len(of_row.texts) for of_row in variants)])
        return [
            explain.effects(of_row, self._log_probs[i], scores[start:end], int(self._predicted[i]))
            for i, of_row, start, end in zip(rows, variants, cuts, cuts[1:], strict=False)
        ]

    def write_tables(self) -> list[str]:
        """predictions.parquet (every test row), errors.csv (surest first), low_confidence.csv (least sure first)."""
        folder, columns = self.run.folder, self._columns()
        _write_parquet(folder / "predictions.parquet", columns)
        names = ["row", "text", *(["aspect"] if self.run.rows.has_aspect else [])]
        names += ["label", "predicted", "confidence", "leak_free"]
        cells = list(zip(*(columns[name] for name in names), strict=True))
        surest = np.argsort(-self._confidence, kind="stable")
        right = self._predicted == self.run.true
        write_csv(folder / "errors.csv", names, (cells[i] for i in surest if not right[i]))
        write_csv(folder / "low_confidence.csv", names, (cells[i] for i in self._unsure(surest[::-1])))
        return ["predictions.parquet", "errors.csv", "low_confidence.csv"]

    def _unsure(self, least_sure: np.ndarray) -> Sequence[int]:
        """The rows for a person: those under the threshold, or a fifth where there is none."""
        calibrated = self.find(ConfidenceFile)
        threshold = calibrated.target.threshold if calibrated else None
        if threshold is None:
            return least_sure[: -(-len(least_sure) // UNSURE_SHARE)].tolist()
        return [i for i in least_sure.tolist() if self._confidence[i] < threshold]

    def _columns(self) -> dict[str, Column]:
        """All there is to say of every test row."""
        run, rows, labels = self.run, self.run.rows.examples, self.run.rows.labels
        columns: dict[str, Column] = {
            "row": [row.row for row in rows],
            "text": [readable(row.text) for row in rows],
            "label": [labels[k] for k in run.true],
            "predicted": [labels[k] for k in self._predicted],
            "correct": (self._predicted == run.true).tolist(),
            "confidence": self._confidence.tolist(),
            "leak_free": [bool(free) for free in run.rows.leak_free],
        }
        if run.rows.has_aspect:
            columns["aspect"] = [readable(row.aspect or "") for row in rows]
        probabilities = np.exp(self._log_probs)
        columns |= {f"p_{label}": probabilities[:, k].tolist() for k, label in enumerate(labels)}
        for name, scored in run.compared.scored.items():
            if name != ADAPTER:
                columns[f"{name}_predicted"] = [labels[k] for k in scored.log_probs.argmax(axis=1)]
        return columns

    def context(self) -> dict[str, object]:
        return {"n": len(self.run.true), "coloured": coloured}


def coloured(error: ExplainedError) -> list[tuple[str, str]]:
    """The text in pieces with a class each: p1 to p4 speak for the predicted label, n1 to n4 against it."""
    pieces, at, text = [], 0, masked(error.text)
    strongest = max((abs(unit.effect) for unit in error.words), default=0.0) or 1.0
    for unit in error.words:
        pieces.append((text[at : unit.start], ""))
        level = round(4 * abs(unit.effect) / strongest)
        sign = "p" if unit.effect > 0 else "n"
        pieces.append((text[unit.start : unit.end], f"{sign}{level}" if level else ""))
        at = unit.end
    pieces.append((text[at:], ""))
    return [piece for piece in pieces if piece[0]]


def _write_parquet(path: Path, columns: dict[str, Column]) -> None:
    import pyarrow
    from pyarrow import parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
