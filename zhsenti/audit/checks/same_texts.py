"""Which rows repeat, leak or contradict each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

from zhsenti.audit.checks.base import AuditOptions, Check, Outcome, Warned, percent
from zhsenti.audit.duplicates import groups_of, near_pairs
from zhsenti.audit.findings import Finding, Kind, shown
from zhsenti.audit.rows import Rows
from zhsenti.data.split import normalise
from zhsenti.task import SentimentTask

CROSS_SPLIT = Kind("cross_split", "文本也在另一部分里", 10)
CONFLICT = Kind("conflict", "同文异标", 20)
NEAR_CROSS_SPLIT = Kind("near_cross_split", "与另一部分里的文本近似", 60)
EXACT_DUPLICATE = Kind("exact_duplicate", "重复文本", 90)
NEAR_DUPLICATE = Kind("near_duplicate", "近似重复", 100)
REPEATS = 68  # rank of the warnings of repeats within a split
SAME, NEAR = "只差空格、标点、大小写或全半角", "相似度 {:.2f}"


@dataclass
class Counts:
    """Fields of ``Audit``, which says what each of them counts."""

    exact_cross_split: dict[str, int] = field(default_factory=dict)
    normalised_cross_split: dict[str, int] = field(default_factory=dict)
    near_cross_split: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    repeated_in_train: int = 0
    near_repeated: dict[str, int] = field(default_factory=dict)
    conflicting_texts: int = 0
    conflicting_texts_all: int = 0


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Compare all texts with each other, but for blank ones, which are all alike and say nothing."""
    index = _Index(rows, options.seed)
    counts, findings = Counts(), list[Finding]()
    for a, b in combinations(rows.names, 2):
        key = f"{b}_in_{a}"
        exact = [i for i in index.of(b) if a in index.exact[i]]
        normal = [i for i in index.of(b) if a in index.normal[i]]
        known = set(normal)
        near = [i for i in index.of(b) if i not in known and index.near(i, a)]
        counts.exact_cross_split[key], counts.normalised_cross_split[key] = len(exact), len(normal)
        counts.near_cross_split[key] = len(near)
    for place, name in enumerate(rows.names):
        findings += _across(index, name, rows.names[:place])
        repeats, nears = _within(index, name)
        counts.repeated[name], counts.near_repeated[name] = len(repeats), len(nears)
        findings += repeats + nears
    counts.repeated_in_train = counts.repeated[rows.names[0]]
    counts.conflicting_texts = len(_torn(rows, index.of(rows.names[0])))
    torn = _torn(rows, [i for name in rows.names for i in index.of(name)])
    counts.conflicting_texts_all = len(torn)
    findings += [finding for group in torn for finding in _conflict(rows, group)]
    return Outcome(findings=findings, warnings=list(_warnings(rows, counts)), fields=asdict(counts))


def _warnings(rows: Rows, counts: Counts) -> Iterator[Warned]:
    """Rows of a later split whose text is in an earlier one come first: what is measured on them is memory."""
    pairs = sorted(combinations(rows.names, 2), key=lambda pair: -rows.names.index(pair[1]))  # last split (test) first
    for earlier, later in pairs:
        key, total = f"{later}_in_{earlier}", len(rows.of[later])
        if n := counts.normalised_cross_split[key]:
            yield Warned(
                f"{later} 的 {total} 条里有 {n} 条（{percent(n, total)}）的文本也在 {earlier} 里"
                f"（其中 {counts.exact_cross_split[key]} 条一字不差）：在这些行上测得的成绩会虚高",
                CROSS_SPLIT.rank,
            )
        if n := counts.near_cross_split[key]:
            yield Warned(f"{later} 里有 {n} 条与 {earlier} 里的文本近似（改动几个字）", NEAR_CROSS_SPLIT.rank)
    if n := counts.conflicting_texts_all:
        several = len(rows.names) > 1
        first = f"，其中 {counts.conflicting_texts} 个在 {rows.names[0]} 内部就矛盾" if several else ""
        yield Warned(f"{n} 个文本（一字不差）带着不同的标签{first}：总有一边是错的", CONFLICT.rank)
    for split, place in rows.of.items():
        exact, near = counts.repeated[split], counts.near_repeated[split]
        if exact:
            yield Warned(f"{split} 有 {exact} 条重复文本（{percent(exact, len(place))}）", REPEATS)
        if near:
            yield Warned(f"{split} 有 {near} 条与前面的文本近似（只差标点，或改动几个字）", REPEATS)


class _Index:
    """For every row: its text's group by exact and by normalised text, with each split's first row of it."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows = rows
        kept = [i for i in range(len(rows.texts)) if i not in rows.blank]
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
        """The split's rows that are not blank."""
        return [i for i in self.rows.of[split] if i not in self.rows.blank]

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
    findings = []
    for i in index.of(split):
        exact = [index.exact[i][a] for a in earlier if a in index.exact[i]]
        normal = [index.normal[i][a] for a in earlier if a in index.normal[i]]
        if exact or normal:
            detail = "一字不差" if exact else SAME
            findings.append(index.rows.finding(CROSS_SPLIT, i, detail, (exact or normal)[0]))
            continue
        near = [match for a in earlier if (match := index.near(i, a))]
        if near:
            other, similarity = near[0]
            findings.append(index.rows.finding(NEAR_CROSS_SPLIT, i, NEAR.format(similarity), other, similarity))
    return findings


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
            repeats.append(rows.finding(EXACT_DUPLICATE, i, agree, first))
        elif same != i and rows.texts[same] != rows.texts[i]:
            nears.append(rows.finding(NEAR_DUPLICATE, i, SAME, same))
        elif match := index.near(i, split, before=i):
            nears.append(rows.finding(NEAR_DUPLICATE, i, NEAR.format(match[1]), *match))
    return repeats, nears


def _torn(rows: Rows, indices: Sequence[int]) -> list[list[int]]:
    """Groups of labelled rows with identical text and aspect but different labels."""
    labelled = [i for i in indices if rows.labels[i] is not None]
    groups = groups_of([(rows.texts[i], rows.aspects[i]) for i in labelled])
    members = ([labelled[place] for place in places] for places in groups.values())
    return [group for group in members if len({rows.labels[i] for i in group}) > 1]


def _conflict(rows: Rows, group: list[int]) -> list[Finding]:
    counts = Counter(rows.label_names[label] for i in group if (label := rows.labels[i]) is not None)
    detail = "这一文本：" + "，".join(f"{shown(label, 20)} ×{n}" for label, n in counts.most_common())
    findings = []
    for i in group:
        other = next(j for j in group if rows.labels[j] != rows.labels[i])
        findings.append(rows.finding(CONFLICT, i, detail, other))
    return findings


SAME_TEXTS = Check("重复与泄漏", (CROSS_SPLIT, CONFLICT, NEAR_CROSS_SPLIT, EXACT_DUPLICATE, NEAR_DUPLICATE), check)
