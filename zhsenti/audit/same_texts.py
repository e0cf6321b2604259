"""Which rows repeat, leak or contradict each other: counts and findings from the groups that ``duplicates`` finds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from zhsenti.audit.duplicates import groups_of, near_pairs
from zhsenti.audit.findings import Finding, Rows, shown
from zhsenti.data.split import normalise

SAME, NEAR = "只差空格、标点、大小写或全半角", "相似度 {:.2f}"


@dataclass
class SameTexts:
    """Counts as in ``Audit``, and the findings behind them."""

    exact_cross_split: dict[str, int] = field(default_factory=dict)
    normalised_cross_split: dict[str, int] = field(default_factory=dict)
    near_cross_split: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    near_repeated: dict[str, int] = field(default_factory=dict)
    conflicting_texts: int = 0
    conflicting_texts_all: int = 0
    findings: list[Finding] = field(default_factory=list)


def find_same_texts(rows: Rows, skip: set[int], labels: Sequence[str], seed: int = 42) -> SameTexts:
    """``skip``: rows without anything to read, which are all alike and say nothing."""
    index = _Index(rows, skip, seed)
    found = SameTexts()
    for a, b in combinations(rows.names, 2):
        key = f"{b}_in_{a}"
        exact = [i for i in index.of(b) if a in index.exact[i]]
        normal = [i for i in index.of(b) if a in index.normal[i]]
        known = set(normal)
        near = [i for i in index.of(b) if i not in known and index.near(i, a)]
        found.exact_cross_split[key], found.normalised_cross_split[key] = len(exact), len(normal)
        found.near_cross_split[key] = len(near)
    for place, name in enumerate(rows.names):
        found.findings += _across(index, name, rows.names[:place])
        repeats, nears = _within(index, name)
        found.repeated[name], found.near_repeated[name] = len(repeats), len(nears)
        found.findings += repeats + nears
    found.conflicting_texts = len(_torn(rows, index.of(rows.names[0])))
    torn = _torn(rows, [i for name in rows.names for i in index.of(name)])
    found.conflicting_texts_all = len(torn)
    found.findings += [finding for group in torn for finding in _conflict(rows, group, labels)]
    return found


class _Index:
    """For every row: its text's group by exact and by normalised text, with each split's first row of it."""

    def __init__(self, rows: Rows, skip: set[int], seed: int) -> None:
        self.rows, self._skip = rows, skip
        kept = [i for i in range(len(rows.texts)) if i not in skip]
        self.exact = self._first_rows(kept, [rows.texts[i] for i in kept])
        normalised = [normalise(rows.texts[i]) for i in kept]
        self.normal = self._first_rows(kept, normalised)
        entries = groups_of(normalised)
        self._members = [[kept[place] for place in places] for places in entries.values()]
        self._entry = {i: entry for entry, members in enumerate(self._members) for i in members}
        self._near: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for later, earlier, similarity in near_pairs([str(text) for text in entries], seed):
            self._near[later].append((earlier, similarity))
            self._near[earlier].append((later, similarity))

    def _first_rows(self, kept: list[int], keys: Sequence[Hashable]) -> dict[int, dict[str, int]]:
        groups: dict[Hashable, dict[str, int]] = defaultdict(dict)
        for i, key in zip(kept, keys, strict=True):
            groups[key].setdefault(self.rows.split(i), i)
        return {i: groups[key] for i, key in zip(kept, keys, strict=True)}

    def of(self, split: str) -> list[int]:
        return [i for i in self.rows.of[split] if i not in self._skip]

    def near(self, i: int, split: str, before: int | None = None) -> tuple[int, float] | None:
        """The most similar row of ``split`` (earlier than row ``before``) and its similarity."""
        matches = [
            (similarity, -j)
            for entry, similarity in self._near.get(self._entry[i], [])
            for j in (self.normal[self._members[entry][0]].get(split),)
            if j is not None and (before is None or j < before)
        ]
        if not matches:
            return None
        similarity, j = max(matches)
        return -j, similarity


def _across(index: _Index, split: str, earlier: Sequence[str]) -> list[Finding]:
    """One finding a row: the identical text in an earlier split, else the same but for form, else a near one."""
    found = []
    for i in index.of(split):
        exact = [index.exact[i][a] for a in earlier if a in index.exact[i]]
        normal = [index.normal[i][a] for a in earlier if a in index.normal[i]]
        if exact or normal:
            detail = "一字不差" if exact else SAME
            found.append(index.rows.finding("cross_split", i, detail, (exact or normal)[0]))
            continue
        near = [match for a in earlier if (match := index.near(i, a))]
        if near:
            other, similarity = near[0]
            found.append(index.rows.finding("near_cross_split", i, NEAR.format(similarity), other, similarity))
    return found


def _within(index: _Index, split: str) -> tuple[list[Finding], list[Finding]]:
    """Exact repeats of an earlier row of the split, and rows that are near one without repeating any."""
    rows = index.rows
    repeats: list[Finding] = []
    nears: list[Finding] = []
    seen: dict[tuple[str, str], int] = {}
    for i in index.of(split):
        first = seen.setdefault((rows.texts[i], rows.aspects[i]), i)
        same = index.normal[i][split]
        if first != i:
            agree = "标签相同" if rows.labels[i] == rows.labels[first] else "标签不同"
            repeats.append(rows.finding("exact_duplicate", i, agree, first))
        elif same != i and rows.texts[same] != rows.texts[i]:
            nears.append(rows.finding("near_duplicate", i, SAME, same))
        elif match := index.near(i, split, before=i):
            nears.append(rows.finding("near_duplicate", i, NEAR.format(match[1]), *match))
    return repeats, nears


def _torn(rows: Rows, indices: Sequence[int]) -> list[list[int]]:
    """Groups of labelled rows with identical text and aspect but different labels."""
    labelled = [i for i in indices if rows.labels[i] is not None]
    groups = groups_of([(rows.texts[i], rows.aspects[i]) for i in labelled])
    members = ([labelled[place] for place in places] for places in groups.values())
    return [group for group in members if len({rows.labels[i] for i in group}) > 1]


def _conflict(rows: Rows, group: list[int], labels: Sequence[str]) -> list[Finding]:
    counts = Counter(labels[label] for i in group if (label := rows.labels[i]) is not None)
    detail = "这一文本：" + "，".join(f"{shown(label, 20)} ×{n}" for label, n in counts.most_common())
    found = []
    for i in group:
        other = next(j for j in group if rows.labels[j] != rows.labels[i])
        found.append(rows.finding("conflict", i, detail, other))
    return found
