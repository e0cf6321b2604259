"""Labels that are probably wrong: a cross-validated linear model doubts them, and so may an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.audit.checks.base import Adapter, AuditOptions, Check, Outcome, counted
from zhsenti.audit.findings import Finding, Kind
from zhsenti.audit.rows import Rows
from zhsenti.data.split import normalise
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DISAGREES = Kind("adapter_disagrees", "适配器不同意标签", 110)
SUSPECT = Kind("suspect_label", "标签可能有误", 120)
DISAGREEMENT = 0.9  # an adapter's least probability of another label
MIN_ROWS = 40
LISTED_SHARE = 0.05
LARGE, FOLDS, LARGE_FOLDS = 20_000, 5, 3
MAX_CHARACTERS = 2000  # of one text, so that one huge text does not fill the memory


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Rank the labelled rows by the model's doubt, list the worst, and ask an adapter about the very worst."""
    usable = rows.usable
    given = [label for i in usable if (label := rows.labels[i]) is not None]
    doubt = suspicion([rows.texts[i] for i in usable], given, options.seed)
    notes, suspects, disagreements = [], list[Finding](), list[Finding]()
    ranked = list(range(len(usable)))
    if doubt is None:
        notes.append("有标签的行太少或只有一种标签，没有检查标签是否有误")
    else:
        scores, others = doubt
        ranked = np.argsort(-scores, kind="stable").tolist()
        for k in ranked[: int(LISTED_SHARE * len(usable))]:
            if scores[k] > 0:
                detail = f"线性模型认为是{task.labels[int(others[k])]}"
                suspects.append(rows.finding(SUSPECT, usable[k], detail, score=float(scores[k])))
    if options.adapter is not None and ranked:
        asked = [usable[k] for k in ranked[: options.adapter_rows]]
        disagreements = _ask(options.adapter, rows, asked, task)
        notes.append(f"适配器读了最可疑的 {len(asked)} 行")
    return Outcome(
        findings=[*disagreements, *suspects],
        warnings=[
            *counted(
                len(disagreements),
                f"行的标签适配器不同意（另一标签的概率 ≥ {DISAGREEMENT}）：优先人工复核",
                DISAGREES.rank,
            ),
            *counted(len(suspects), "行的标签可疑（交叉验证的线性模型给出别的标签）：值得人工复核", SUSPECT.rank),
        ],
        notes=notes,
        fields={
            "suspects": len(suspects),
            "adapter_disagreements": None if options.adapter is None else len(disagreements),
        },
    )


def _ask(adapter: Adapter, rows: Rows, asked: list[int], task: SentimentTask) -> list[Finding]:
    """The rows whose label the adapter contradicts, the surest first."""
    aspects = [rows.aspects[i] for i in asked] if task.has_aspect else None
    probabilities = np.exp(adapter([rows.texts[i] for i in asked], aspects))
    findings = []
    for i, row in zip(asked, probabilities, strict=True):
        other = int(row.argmax())
        if other != rows.labels[i] and row[other] >= DISAGREEMENT:
            detail = f"适配器认为是{task.labels[other]}（概率 {row[other]:.3f}）"
            findings.append(rows.finding(DISAGREES, i, detail, score=float(row[other])))
    return sorted(findings, key=lambda finding: -(finding.score or 0))


def suspicion(texts: Sequence[str], labels: Sequence[int], seed: int = 42) -> tuple[np.ndarray, np.ndarray] | None:
    """How much a linear model doubts each row's label.

    It is a logistic regression over character 1- and 2-grams (TF-IDF), fitted for each fold on the other folds; the
    same text is never on both sides. IDF is of all rows, which tells nothing of labels.

    Args:
        texts: N texts.
        labels: Their classes' indices.
        seed: Of the folds.

    Returns:
        Scores, float64 (N,), and the label that the model likes best among the others, int (N,). A score is the
        log-odds of that other label against the given one; above 0 the model would give the other one. None when
        there are fewer than MIN_ROWS rows, one label, or too few different texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import GroupKFold

    given = np.asarray(labels)
    folds = LARGE_FOLDS if len(texts) > LARGE else FOLDS
    ids: dict[str, int] = {}
    groups = np.array([ids.setdefault(normalise(text), len(ids)) for text in texts])
    if len(texts) < MIN_ROWS or len(np.unique(given)) < 2 or len(ids) < MIN_ROWS // 2:
        return None
    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=200_000, dtype=np.float32
    )
    try:
        matrix = vectorizer.fit_transform(text[:MAX_CHARACTERS] for text in texts)
    except ValueError:  # no character occurs in two texts
        return None
    classes = np.unique(given)
    logits = np.zeros((len(given), len(classes)))
    # Two labels need one model: its log-odds of the second, against 0 for the first.
    columns = range(1, 2) if len(classes) == 2 else range(len(classes))
    for train, held in GroupKFold(folds, shuffle=True, random_state=seed).split(matrix, given, groups):
        for column in columns:
            logits[held, column] = _log_odds(matrix[train], given[train] == classes[column], matrix[held])
    column_of_given, rows = np.searchsorted(classes, given), np.arange(len(given))
    of_given = logits[rows, column_of_given]
    logits[rows, column_of_given] = -np.inf
    best = logits.argmax(axis=1)
    return logits[rows, best] - of_given, classes[best]


def _log_odds(train: csr_matrix, positive: np.ndarray, held: csr_matrix) -> np.ndarray:
    """One label against the rest; a label that this fold did not see keeps a flat, low score."""
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        return np.full(held.shape[0], 9.0 if positive.all() else -9.0)
    # The dual problem is ten times faster here (as many features as rows) and has the same solution.
    model = LogisticRegression(C=10, solver="liblinear", dual=True, random_state=0)
    return model.fit(train, positive).decision_function(held)


DOUBTS = Check("可能有误的标签", (DISAGREES, SUSPECT), check)
