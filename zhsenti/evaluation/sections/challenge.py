"""Does the adapter hold where sentiment is hard to read? A challenge set of sentences by kind of difficulty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from zhsenti.core.errors import DataError
from zhsenti.core.paths import package_file, user_path
from zhsenti.data.read import Table, read_table
from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Interval, Model
from zhsenti.evaluation.systems import NEGATIVE, POSITIVE, polar_classes
from zhsenti.task import SentimentTask

CHALLENGE = package_file("zhsenti.evaluation", "challenge", "challenge.csv")
COLUMNS = ("id", "category", "half", "label", "text")
CATEGORIES = {
    "one_word": "一词褒贬",
    "negation": "否定",
    "double_negation": "双重否定",
    "irony": "反讽",
    "but_turn": "转折",
    "comparison": "比较",
    "conditional_wish": "条件与愿望",
    "rhetorical": "反问",
    "slang": "网络用语",
    "emoji_only": "只有表情",
    "typo_homophone": "错别字与谐音",
    "traditional": "繁体字",
    "mixed_zh_en": "中英夹杂",
    "numbers_stars": "数字与星级",
    "long_late_turn": "长文末转",
    "injection": "注入指令",
    "aspect_mixed": "方面混合",
    "neutral": "中性",
}
UNSCORED = ("aspect_mixed", "neutral")  # no side is right: shown, not counted
HALVES = {"tune": "调参用的一半", "held_out": "留出的一半"}


class Category(Model):
    """Items of one kind in the challenge set.

    Attributes:
        title: The kind (Chinese).
        n: Items.
        scored: Whether one side is right.
        accuracy: Share of them that are judged rightly; None for a kind that is not scored.
        accuracy_ci95: Its Wilson interval.
        mean_confidence: Mean probability of the predicted label.
        predicted: How often each label was given.
    """

    title: str
    n: int
    scored: bool
    accuracy: float | None
    accuracy_ci95: Interval | None
    mean_confidence: float
    predicted: dict[str, int]


class Challenge(Model):
    """The adapter on the challenge set.

    Attributes:
        n: Scored items.
        accuracy: Share of them that are judged rightly.
        accuracy_ci95: Its Wilson interval.
        n_unscored: Items in which no side is right.
        by_category: Each kind, in the file's order of kinds.
        by_half: The half that may be looked at, and the one that is held out.
        systems: Name -> accuracy of the other systems.
        sha256: Of the file.
    """

    n: int
    accuracy: float
    accuracy_ci95: Interval
    n_unscored: int
    by_category: dict[str, Category]
    by_half: dict[str, Category]
    systems: dict[str, float] = Field(default_factory=dict)
    sha256: str


@dataclass(frozen=True)
class ChallengeItem:
    """One sentence of the set.

    Attributes:
        id: Its name in the file.
        category: Its kind of difficulty.
        label: None where no side is right.
        text: The sentence.
        half: tune (may be looked at) or held_out.
    """

    id: str
    category: str
    label: str | None
    text: str
    half: str


def challenge_path(given: str) -> Path:
    """The file that ``--challenge`` means; ``auto`` is the set that comes with the project."""
    return CHALLENGE if given == "auto" else user_path(given)


def load_challenge(path: Path = CHALLENGE) -> list[ChallengeItem]:
    """Read a challenge set.

    Returns:
        The file's items in order.

    Raises:
        DataError: Something is wrong with it; the message lists every fault at once.
    """
    if not path.is_file():
        raise DataError(f"没有这个挑战集文件：{path}", todo="检查路径，或用 --challenge none 不跑挑战集。")
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"挑战集 {path} 缺少列：{'、'.join(missing)}", expected="、".join(COLUMNS), found="、".join(table.columns)
        )
    items, faults = _items(table)
    if faults:
        raise DataError(
            f"挑战集 {path} 有 {len(faults)} 处错误",
            found="；".join(faults[:8]) + ("……" if len(faults) > 8 else ""),
            todo="改正这些行。",
        )
    if all(item.label is None for item in items):
        raise DataError(f"挑战集 {path} 没有一条带标签，算不了准确率", todo="在 label 列写上标签。")
    return items


def few_of_each(items: Sequence[ChallengeItem], n: int) -> list[ChallengeItem]:
    """The first ``n`` of every category and label."""
    taken: Counter[tuple[str, str | None]] = Counter()
    chosen = []
    for item in items:
        taken[item.category, item.label] += 1
        if taken[item.category, item.label] <= n:
            chosen.append(item)
    return chosen


def _items(table: Table) -> tuple[list[ChallengeItem], list[str]]:
    columns = [table.columns.index(name) for name in COLUMNS]
    items, faults, seen = [], [], set[str]()
    for number, row in enumerate(table.rows, start=1):
        cells = ["" if row[i] is None else str(row[i]) for i in columns]
        name, category, half, label = (cell.strip() for cell in cells[:4])
        if not name or name in seen:
            faults.append(f"第 {number} 条的 id “{name}”为空或重复")
        if category not in CATEGORIES:
            faults.append(f"第 {number} 条的类别“{category}”不认识")
        elif category in UNSCORED and label:
            faults.append(f"第 {number} 条属于“{CATEGORIES[category]}”，不该有标签")
        elif category not in UNSCORED and label not in NEGATIVE + POSITIVE:
            faults.append(f"第 {number} 条的标签“{label}”不是负面或正面")
        if half not in HALVES:
            faults.append(f"第 {number} 条的 half “{half}”不是 {' 或 '.join(HALVES)}")
        if not cells[4].strip():
            faults.append(f"第 {number} 条没有文本")
        seen.add(name)
        items.append(ChallengeItem(name, category, label or None, cells[4], half))
    return items, faults


def challenge_result(
    items: Sequence[ChallengeItem],
    log_probs: np.ndarray,
    task: SentimentTask,
    others: Mapping[str, np.ndarray],
    sha256: str,
) -> Challenge:
    """Score the set; negative and positive are found under whatever names the task has for them.

    Args:
        items: The set.
        log_probs: The adapter's class log-probabilities in the items' order, (N, C).
        task: Has the labels.
        others: Name -> the same of another system.
        sha256: Of the set's file.

    Raises:
        ValueError: The task is not just these two (``polar_classes``).
    """
    classes = polar_classes(task)
    if classes is None:
        raise ValueError(f"labels {task.labels} are not negative and positive")
    true = np.array([-1 if item.label is None else classes[item.label in POSITIVE] for item in items])
    scored = true >= 0

    def group(title: str, mask: np.ndarray) -> Category:
        return _category(title, true[mask], log_probs[mask], task.labels)

    categories = np.array([item.category for item in items])
    halves = np.array([item.half for item in items])
    accuracy, ci95 = share(int((log_probs.argmax(axis=1) == true)[scored].sum()), int(scored.sum()))
    return Challenge(
        n=int(scored.sum()),
        accuracy=accuracy,
        accuracy_ci95=ci95,
        n_unscored=int((~scored).sum()),
        by_category={
            key: group(title, categories == key) for key, title in CATEGORIES.items() if key in set(categories)
        },
        by_half={
            key: group(title, scored & (halves == key))
            for key, title in HALVES.items()
            if (scored & (halves == key)).any()
        },
        systems={name: float((scores.argmax(axis=1) == true)[scored].mean()) for name, scores in others.items()},
        sha256=sha256,
    )


def _category(title: str, true: np.ndarray, log_probs: np.ndarray, labels: Sequence[str]) -> Category:
    """``true`` (N,) classes, N >= 1, all of them -1 where the kind is not scored."""
    predicted = log_probs.argmax(axis=1)
    scored = bool((true >= 0).all())
    accuracy, ci95 = share(int((predicted == true).sum()), len(true)) if scored else (None, None)
    given = Counter(predicted.tolist())
    return Category(
        title=title,
        n=len(true),
        scored=scored,
        accuracy=accuracy,
        accuracy_ci95=ci95,
        mean_confidence=float(np.exp(log_probs.max(axis=1).astype(np.float64)).mean()),
        predicted={label: given[k] for k, label in enumerate(labels)},
    )
