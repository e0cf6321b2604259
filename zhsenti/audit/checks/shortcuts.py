"""Features that give the label away, so that a model can be right without reading: words, symbols, patterns, length."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import rjieba

from zhsenti.audit.checks.base import AuditOptions, Check, Outcome, Warned
from zhsenti.audit.findings import Finding, Kind, Shortcut
from zhsenti.audit.rows import Rows
from zhsenti.core.intervals import wilson
from zhsenti.data.text import readable
from zhsenti.task import SentimentTask

SHORTCUT = Kind("shortcut", "一看便知标签的特征", 50)
BY_LENGTH, BY_WORDS = 55, 130  # ranks of warnings
LENGTH_AUC = 0.7
# Order among features with equally many rows.
KINDS = ("emoji", "pattern", "word", "first", "symbol")
MIN_ROWS, MIN_SHARE = 20, 0.002
# Least Wilson lower bound. 22 rows all of one label reach it; at 0.95 it would take 73, and no word of ChnSentiCorp
# would pass.
PURITY = 0.85
MAX_LISTED = 30
_MAX_CHARACTERS = 5000  # of one text; what gives a label away stands in its beginning
_PATTERNS = (
    ("网址", re.compile(r"https?://|www\.", re.IGNORECASE)),
    ("外文单词", re.compile(r"[A-Za-z]{2,}")),
    ("数字", re.compile(r"[0-9０-９]")),
    ("三个以上相连的数字", re.compile(r"[0-9０-９]{3,}")),
    ("HTML 标签或实体", re.compile(r"<[a-zA-Z/][^>]*>|&[a-zA-Z]+;|&#[0-9]+;")),
    ("@ 某人", re.compile(r"[@＠]\w")),
    ("# 话题 #", re.compile(r"[#＃][^#＃]+[#＃]")),
    ("换行", re.compile(r"[\r\n]")),
)
Feature = tuple[str, str]  # one of KINDS, and the word, symbol or name of a pattern


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Look at the rows that a model would learn from: those of the first split that has labels."""
    usable = rows.usable
    train = [i for i in usable if rows.split(i) == rows.split(usable[0])]
    texts = [rows.texts[i] for i in train]
    labels = [label for i in train if (label := rows.labels[i]) is not None]
    if len(set(labels)) < 2:
        return Outcome(fields={"shortcuts": []})
    shortcuts = find_shortcuts(texts, labels, task.labels)
    warnings = [*_warning(shortcuts, meaning=False), *_warning(shortcuts, meaning=True)]
    auc, label = length_auc(texts, labels)
    if auc > LENGTH_AUC:
        sentence = f"只看文本长短就能认出“{task.labels[label]}”（AUC {auc:.2f}）：模型可能只学会看长短"
        warnings.append(Warned(sentence, BY_LENGTH))
    findings = [_finding(shortcut, rows.split(train[0])) for shortcut in shortcuts]
    return Outcome(findings=findings, warnings=warnings, fields={"shortcuts": shortcuts})


def _warning(shortcuts: Sequence[Shortcut], *, meaning: bool) -> Iterator[Warned]:
    """Marks without a meaning of their own are the ones to worry about."""
    some = [s for s in shortcuts if s.meaning == meaning]
    if not some:
        return
    noun = "词" if meaning else "没有词义的特征（表情、符号、网址、数字等）"
    follows = "多半是正常的情感用词，请过目" if meaning else "模型可能只学会看它"
    shown = "、".join(f"{s.feature}→{s.label}（{s.rows} 行，{100 * s.purity:.0f} %）" for s in some[:3])
    yield Warned(
        f"{len(some)} 个{noun}几乎直接给出标签：{shown}{'等' if len(some) > 3 else ''}；{follows}",
        BY_WORDS if meaning else SHORTCUT.rank,
    )


def _finding(shortcut: Shortcut, split: str) -> Finding:
    meaning = "词" if shortcut.meaning else "没有词义"
    return Finding(
        kind=SHORTCUT.name,
        title=SHORTCUT.title,
        split=split,
        text=shortcut.feature,
        label=shortcut.label,
        detail=f"{shortcut.rows} 行里 {100 * shortcut.purity:.1f} % 是{shortcut.label}；{meaning}",
        score=round(shortcut.low, 4),
    )


def features(text: str) -> set[Feature]:
    """Everything that is looked for in one text."""
    text = readable(text[:_MAX_CHARACTERS])
    words = [word for word in rjieba.cut(text) if word.strip()]
    present: set[Feature] = {("word", word) for word in words if any(c.isalnum() for c in word)}
    if words:
        present.add(("first", words[0]))
    for character in set(text):
        category = unicodedata.category(character)
        if category == "So":
            present.add(("emoji", character))
        elif category[0] in "PS":
            present.add(("symbol", character))
    present.update(("pattern", name) for name, pattern in _PATTERNS if pattern.search(text))
    return present


def find_shortcuts(texts: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> list[Shortcut]:
    """The features that give a label away. Identical texts with one label count once.

    A feature does when it is in enough rows (MIN_ROWS, MIN_SHARE) and the 95 % lower bound of its purity reaches
    PURITY, or half-way from the label's own share to 1 where that is higher: a label of 96 % proves nothing.

    Args:
        texts: N texts.
        labels: Their classes' indices.
        names: The labels' names.

    Returns:
        At most MAX_LISTED of them, most rows first.
    """
    rows = list(dict.fromkeys(zip(texts, labels, strict=True)))
    totals = Counter(label for _, label in rows)
    if len(totals) < 2:
        return []
    counts: dict[Feature, Counter[int]] = {}
    for text, label in rows:
        for feature in features(text):
            counts.setdefault(feature, Counter())[label] += 1
    enough = max(MIN_ROWS, MIN_SHARE * len(rows))
    return sorted(_pure(counts, totals, enough, names), key=lambda s: (-s.rows, KINDS.index(s.kind), s.feature))[
        :MAX_LISTED
    ]


def _pure(
    counts: dict[Feature, Counter[int]], totals: Counter[int], enough: float, names: Sequence[str]
) -> Iterator[Shortcut]:
    whole: set[str] = set()
    for (kind, feature), by_label in sorted(counts.items(), key=lambda item: item[0][0] == "first"):
        n = by_label.total()
        if n < enough:
            continue
        label, hits = by_label.most_common(1)[0]
        low, _ = wilson(hits, n)
        share = totals[label] / totals.total()
        if low < max(PURITY, (1 + share) / 2) or (kind == "first" and feature in whole):
            continue
        whole.add(feature)
        meaning = kind in ("word", "first") and any(c.isalpha() for c in feature)
        yield Shortcut(
            kind=kind, feature=feature, label=names[label], rows=n, purity=hits / n, low=low, meaning=meaning
        )


def length_auc(texts: Sequence[str], labels: Sequence[int]) -> tuple[float, int]:
    """How well the text's length alone tells one label from the others.

    Returns:
        The AUC (0.5 to 1) of the label that it tells best, and that label's index.
    """
    from sklearn.metrics import roc_auc_score

    lengths, given = np.array([len(text) for text in texts]), np.array(labels)
    by_label = [(float(roc_auc_score(given == label, lengths)), label) for label in np.unique(given).tolist()]
    return max((max(auc, 1 - auc), label) for auc, label in by_label)


SHORTCUTS = Check("一看便知标签的特征", (SHORTCUT,), check)
