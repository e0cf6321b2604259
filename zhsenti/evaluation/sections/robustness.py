"""Does a judgement survive what should not change it, and does it hold where sentiment is hard to read?

Test rows perturbed in ways a person does not mind (flip rates), and a challenge set of sentences by kind of difficulty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zhsenti.core.errors import DataError
from zhsenti.core.paths import package_file
from zhsenti.data.read import Table, read_table
from zhsenti.data.split import Example, sample
from zhsenti.data.text import readable
from zhsenti.evaluation.baselines import NEGATIVE, POSITIVE, polar_classes
from zhsenti.evaluation.metrics import share
from zhsenti.evaluation.schema import Category, Challenge, FlipRate
from zhsenti.evaluation.sections.perturb import perturb
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


# ── perturbed test rows ───────────────────────────────────────────────────────────────────────────────────────────


def perturbed_rows(
    examples: Sequence[Example], kind: str, n: int, seed: int, labels: Sequence[str]
) -> list[tuple[int, str]]:
    """(index into ``examples``, changed text) of the rows that ``kind`` changes, among ``n`` (0: all) sampled ones.

    The sample is stratified and the same for every kind. ``labels`` in order of sentiment: the opposite of a row's true
    label is the one as far from the other end, and in the middle the first.
    """
    numbered = [replace(example, row=index) for index, example in enumerate(examples)]
    changed = []
    for row in sample(numbered, n, seed):
        opposite = len(labels) - 1 - row.label
        text = perturb(kind, row.text, seed, labels[opposite if opposite != row.label else 0])
        if text is not None:
            changed.append((row.row, text))
    return changed


def flip_rate(
    title: str,
    before: np.ndarray,
    after: np.ndarray,
    true: np.ndarray,
    originals: Sequence[str],
    changed: Sequence[str],
) -> FlipRate:
    """``before``, ``after``: class log-probabilities (N, C) of the N >= 1 original and changed texts, in one order."""
    was, now = np.asarray(before).argmax(axis=1), np.asarray(after).argmax(axis=1)
    flipped = np.flatnonzero(was != now)
    rate, ci95 = share(len(flipped), len(was))
    example = (readable(originals[flipped[0]]), readable(changed[flipped[0]])) if len(flipped) else None
    return FlipRate(
        title=title,
        rate=rate,
        ci95=ci95,
        n=len(was),
        accuracy_before=float((was == np.asarray(true)).mean()),
        accuracy_after=float((now == np.asarray(true)).mean()),
        example=example,
    )


# ── challenge set ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ChallengeItem:
    """``label`` is None where no side is right;  ``half``: tune (may be looked at) or held_out."""

    id: str
    category: str
    label: str | None
    text: str
    half: str


def challenge_path(given: str) -> Path:
    """``auto``: the set that comes with the project."""
    return CHALLENGE if given == "auto" else Path(given)


def load_challenge(path: Path = CHALLENGE) -> list[ChallengeItem]:
    """The file's items in order. Raises DataError that lists every fault at once."""
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
    """``log_probs`` (N, C) and those of the ``others`` in the items' order, classes in the task's.

    Negative and positive are found under whatever names the task has for them. Raises ValueError for a task that is
    not these two (``baselines.polar_classes``).
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
