"""Character n-gram TF-IDF and logistic regression, fitted on the rows that the adapter was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.core.hashing import rows_sha256
from zhsenti.evaluation.systems import Context, Score, System, floored_log

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

NGRAMS = ((1, 3), (2, 4))
STRENGTHS = (1.0, 10.0)  # LogisticRegression's C


def tfidf(context: Context) -> System:
    """TF-IDF and logistic regression; n-gram range and C are chosen on dev, never on test."""
    system = partial(System, "tfidf", "TF-IDF + LR", "linear")
    if len({row.label for row in context.train}) < 2:
        return system(not_applicable="训练数据不足两类，无法拟合")
    identity = {
        "system": "tfidf",
        "ngrams": NGRAMS,
        "strengths": STRENGTHS,
        "labels": context.task.labels,
        "train": rows_sha256(row.cells for row in context.train),
        "dev": rows_sha256(row.cells for row in context.dev),
        "scikit-learn": metadata.version("scikit-learn"),
    }
    note = f"在 {len(context.train)} 条训练数据上拟合"
    return system(identity=identity, prepare=lambda: _fit(context), notes=(note,))


def _fit(context: Context) -> tuple[Score, list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train = [_joined(row.text, row.aspect) for row in context.train]
    dev = [_joined(row.text, row.aspect) for row in context.dev]
    labels, dev_labels = [row.label for row in context.train], np.array([row.label for row in context.dev])
    best: tuple[float, TfidfVectorizer, LogisticRegression, str] | None = None
    for ngrams in NGRAMS:
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ngrams, sublinear_tf=True)
        features = vectorizer.fit_transform(train)
        dev_features = vectorizer.transform(dev) if dev else None
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels)
            accuracy = float((model.predict(dev_features) == dev_labels).mean()) if dev else 0.0
            if best is None or accuracy > best[0]:
                best = accuracy, vectorizer, model, f"字符 {ngrams[0]}–{ngrams[1]} 元组，C={strength:g}"
        if not dev:
            break
    assert best is not None  # NGRAMS and STRENGTHS are not empty
    accuracy, vectorizer, model, choice = best
    how = f"按 {len(dev)} 条验证数据选定（准确率 {accuracy:.2%}）" if dev else "没有验证数据，未作选择"
    return _scorer(vectorizer, model, len(context.task.labels)), [f"{choice}，{how}"]


def _scorer(vectorizer: TfidfVectorizer, model: LogisticRegression, classes: int) -> Score:
    def score(
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        joined = [_joined(*pair) for pair in zip(texts, aspects or [None] * len(texts), strict=True)]
        probabilities = np.zeros((len(texts), classes))  # a class absent from train stays 0
        probabilities[:, model.classes_] = model.predict_proba(vectorizer.transform(joined))
        return floored_log(probabilities)

    return score


def _joined(text: str, aspect: str | None) -> str:
    return f"{aspect}：{text}" if aspect else text
