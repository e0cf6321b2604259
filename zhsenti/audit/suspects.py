"""Labels that are probably wrong: rows whose given label a cross-validated linear model doubts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zhsenti.data.split import normalise

MIN_ROWS = 40
LISTED_SHARE = 0.05
LARGE, FOLDS, LARGE_FOLDS = 20_000, 5, 3
MAX_CHARACTERS = 2000  # of one text, so that one huge text does not fill the memory


def suspicion(texts: Sequence[str], labels: Sequence[int], seed: int = 42) -> tuple[np.ndarray, np.ndarray] | None:
    """Doubt of every row's label: (scores float64 (N,), the label the model likes best among the others (N,)).

    Scores are log-odds of that other label against the given one; > 0: the model would give another label. The model
    is a logistic regression over character 1- and 2-grams (TF-IDF), fitted for each fold on the other folds; the same
    text is never on both sides. IDF is of all rows, which tells nothing of labels.
    None when there are fewer than MIN_ROWS rows, one label, or too few different texts.
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
    own, rows = np.searchsorted(classes, given), np.arange(len(given))
    mine = logits[rows, own]
    logits[rows, own] = -np.inf
    best = logits.argmax(axis=1)
    return logits[rows, best] - mine, classes[best]


def _log_odds(train: object, positive: np.ndarray, held: object) -> np.ndarray:
    """One label against the rest; a label that this fold did not see keeps a flat, low score."""
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        return np.full(held.shape[0], 9.0 if positive.all() else -9.0)  # type: ignore[attr-defined]
    # The dual problem is ten times faster here (as many features as rows) and has the same solution.
    model = LogisticRegression(C=10, solver="liblinear", dual=True, random_state=0)
    return model.fit(train, positive).decision_function(held)
