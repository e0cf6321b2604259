"""The task as data: labels, the words that stand for them, the prompt, and how long texts are cut."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zhsenti.core.errors import ConfigError
from zhsenti.core.printable import printable
from zhsenti.core.yaml_files import read_yaml

DEFAULT_TEMPLATE = "评论：{text}\n情感倾向："
MAX_LABELS, MAX_TEMPLATE = 1000, 20_000  # more than any model answers or reads; a stranger's file could hold millions
DEFAULT_ALIASES = {
    "负面": ("0", "negative", "neg", "差评", "消极"),
    "正面": ("1", "positive", "pos", "好评", "积极"),
}


def _folded(raw: object) -> str:
    """One spelling for a label cell: width-folded, trimmed, lower-cased; ``1.0`` (a number column) reads as ``1``."""
    text = unicodedata.normalize("NFKC", str(raw)).strip().lower()
    whole, dot, fraction = text.partition(".")
    return whole if dot and whole.lstrip("-").isdigit() and set(fraction) <= {"0"} else text


_SCALARS = (str, int, float)
# What each part of a task may be, where it comes from YAML or a manifest, and its name in messages.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "labels": ((list, tuple), "列表"),
    "words": ((list, tuple), "列表"),
    "template": ((str,), "文字"),
    "aliases": ((dict, type(None)), "“标签: [写法]”"),
    "max_length": ((int,), "整数"),
    "head_share": ((int, float), "数"),
}


def _type_faults(values: object) -> list[str]:
    """What in a task's ``values`` is of a type that SentimentTask does not take (Chinese)."""
    if not isinstance(values, dict):
        return ["要是“键: 值”"]
    given = [(key, values[key], *allowed) for key, allowed in _KINDS.items() if key in values]
    faults = [f"{key} 要是{name}" for key, value, kinds, name in given if type(value) not in kinds]
    if faults:
        return faults
    lists = {key: values[key] for key in ("labels", "words") if key in values}
    lists |= {f"aliases 的 {key}": value for key, value in (values.get("aliases") or {}).items()}
    return [
        f"{key} 要是文字的列表（yes、no、日期等要加引号）"
        for key, value in lists.items()
        if not isinstance(value, (list, tuple)) or not all(type(item) in _SCALARS for item in value)
    ]


@dataclass(frozen=True)
class SentimentTask:
    """What is asked of the model. Travels with the adapter, so prediction is never told the prompt again.

    Attributes:
        labels: Ordered label names; a class index is a position in this tuple.
        words: For label scoring, the word the model would write for each label, in the same order.
        template: Prompt with exactly one ``{text}`` slot and at most one ``{aspect}`` slot.
        aliases: For each label, other spellings accepted in data files.
        max_length: Longest prompt in tokens, label word not counted; only the text slot is ever cut.
        head_share: Share (0 to 1) of the kept text that is taken from its head, the rest from its tail.

    Raises:
        ConfigError: The parts do not fit each other; the message lists every fault.
    """

    labels: tuple[str, ...] = ("负面", "正面")
    words: tuple[str, ...] = ()
    template: str = DEFAULT_TEMPLATE
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_ALIASES))
    max_length: int = 256
    head_share: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        object.__setattr__(self, "words", tuple(str(word) for word in self.words) or self.labels)
        known = {k: tuple(str(a) for a in v) for k, v in self.aliases.items()}
        if self.aliases == DEFAULT_ALIASES:  # a custom label set does not inherit what it did not name
            known = {k: v for k, v in known.items() if k in self.labels}
        object.__setattr__(self, "aliases", known)
        faults = self._faults()
        if faults:
            raise ConfigError("任务（task）定义有误：" + "；".join(faults), todo="改正 YAML 里的 task 一节。")

    def _faults(self) -> list[str]:
        if len(self.labels) > MAX_LABELS or len(self.template) > MAX_TEMPLATE:
            return [
                f"labels 最多 {MAX_LABELS} 个，template 最多 {MAX_TEMPLATE} 字，"
                f"现在是 {len(self.labels)} 个、{len(self.template)} 字"
            ]
        faults = []
        if len(self.labels) < 2:
            faults.append(f"labels 至少要两个，现在是 {list(self.labels)}")
        if len(set(self.labels)) < len(self.labels):
            faults.append(f"labels 有重复：{list(self.labels)}")
        strange = [text for text in (*self.labels, *self.words) if printable(text) != text or set(text) & set("\n\t")]
        if strange:
            faults.append(f"labels 和 words 里不能有控制字符：{strange}")
        if len(self.words) != len(self.labels):
            faults.append(f"words 要与 labels 一一对应：{len(self.words)} 个词，{len(self.labels)} 个标签")
        if len(set(self.words)) < len(self.words) or not all(word.strip() for word in self.words):
            faults.append(f"words 不能重复或为空：{list(self.words)}")
        if self.template.count("{text}") != 1 or self.template.count("{aspect}") > 1:
            faults.append("template 要恰有一个 {text}，最多一个 {aspect}")
        unknown = sorted(set(self.aliases) - set(self.labels))
        if unknown:
            faults.append(f"aliases 里有不存在的标签：{unknown}")
        if self.max_length < 16:
            faults.append(f"max_length 至少 16，现在是 {self.max_length}")
        if not 0.0 <= self.head_share <= 1.0:
            faults.append(f"head_share 要在 0 到 1 之间，现在是 {self.head_share}")
        owners: dict[str, str] = {}
        for label in self.labels:
            for spelling in map(_folded, (label, *self.aliases.get(label, ()))):
                if owners.setdefault(spelling, label) != label:
                    faults.append(f"写法“{spelling}”同时指 {owners[spelling]} 和 {label}")
        return faults

    @property
    def has_aspect(self) -> bool:
        """Whether the prompt asks about an aspect."""
        return "{aspect}" in self.template

    def label_index(self, raw: object) -> int | None:
        """The class index of a label as written in a file, or None when the task does not know it."""
        return self._spellings().get(_folded(raw))

    def _spellings(self) -> dict[str, int]:
        cached = self.__dict__.get("_spellings_cache")
        if cached is None:
            cached = {
                _folded(spelling): index
                for index, label in enumerate(self.labels)
                for spelling in (label, *self.aliases.get(label, ()))
            }
            object.__setattr__(self, "_spellings_cache", cached)
        return cached

    def unknown_labels(self, raw: Iterable[str]) -> tuple[str, str, str]:
        """What to say of labels that the task does not know.

        Args:
            raw: Those labels as written, as often as they occur.

        Returns:
            What is expected; what was found, with counts and the nearest label; what to do (all in Chinese).
        """
        unknown = Counter(raw)
        shown = "，".join(f"{value!r}×{count}{self._hint(value)}" for value, count in unknown.most_common(8))
        more = f" 等 {len(unknown)} 种" if len(unknown) > 8 else ""
        accepted = "；".join(
            f"{label}（{'、'.join(self.aliases.get(label, ())) or '仅此写法'}）" for label in self.labels
        )
        todo = "改正这些行，或在 --config 的 YAML 里用 task.labels / task.aliases 声明自己的标签。"
        return accepted, shown + more, todo

    def _hint(self, value: str) -> str:
        near = difflib.get_close_matches(_folded(value), list(self._spellings()), n=1, cutoff=0.5)
        return f"（最接近：{self.labels[self._spellings()[near[0]]]}）" if near else ""

    def to_dict(self) -> dict[str, Any]:
        """The task as JSON values."""
        return asdict(self)

    @classmethod
    def resolve(cls, given: str | Mapping[str, Any] | None, max_length: int | None) -> SentimentTask:
        """The task that flags name: the default, or the one given, with ``max_length`` applied over it.

        Args:
            given: A YAML file with the task, or with a section ``task``; or what stands in such a section.
            max_length: In place of the task's own.

        Raises:
            ConfigError: The file cannot be read, or defines no task.
        """
        values = {} if given is None else given
        if isinstance(values, str):
            values = read_yaml(values)
            values = values.get("task", values)
        task = cls.from_dict(values)
        return replace(task, max_length=max_length) if max_length else task

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SentimentTask:
        """Build a task from YAML or a manifest.

        Raises:
            ConfigError: A key is unknown, a value has another type, or the parts do not fit each other.
        """
        faults = _type_faults(values)
        if faults:
            raise ConfigError("任务（task）定义有误：" + "；".join(faults), todo="改正 YAML 里的 task 一节。")
        allowed = set(cls.__dataclass_fields__)
        unknown = sorted(set(values) - allowed)
        if unknown:
            raise ConfigError(f"task 里有不认识的键：{unknown}", expected="、".join(sorted(allowed)))
        plain = dict(values)
        if "aliases" in plain:
            plain["aliases"] = {str(k): tuple(map(str, v)) for k, v in (plain["aliases"] or {}).items()}
        for key in ("labels", "words"):
            if key in plain:
                plain[key] = tuple(map(str, plain[key]))
        return cls(**plain)
