"""How good is the adapter, and is it better than what one has without it? metrics.json, baseline_comparison.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field

from zhsenti.core.console import plain_console
from zhsenti.evaluation.compare import ComparisonFile, Pair
from zhsenti.evaluation.drawing import Picture
from zhsenti.evaluation.schema import FORMAT, Model, Provenance, Scores
from zhsenti.evaluation.sections.base import BAD, CAUTION, GOOD, Fact, Headline, Section, WeakPoint
from zhsenti.evaluation.sections.comparison_pictures import confusion, curves
from zhsenti.evaluation.sections.comparison_tables import show
from zhsenti.evaluation.slices import Slice, slices
from zhsenti.evaluation.systems import ADAPTER
from zhsenti.evaluation.wording import interval, judgement, pair_sentence, percent

METRICS, COMPARISON = "metrics.json", "baseline_comparison.json"
ZERO_SHOT = "zero_shot"  # the system that the first screen compares with
WIDE = 0.06  # an interval of the accuracy that is wider is a weak point


class MetricsFile(Model):
    """metrics.json: the adapter under test.

    Attributes:
        method: Its method.
        labels: The task's, in order.
        official: On all test rows.
        leak_free: On those whose text is in no training row; None where there are none.
        leaks_checked: False: some training data could not be found, so leak_free may hold rows that were trained on.
        slices: Of the leak-free rows, or of all where there are none.
        provenance: Where the numbers come from.
        notes: What to know of data and scores (Chinese).
    """

    format: int = FORMAT
    method: str
    labels: list[str]
    official: Scores
    leak_free: Scores | None
    leaks_checked: bool
    slices: list[Slice] = Field(default_factory=list)
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Both files of the section."""

    metrics: MetricsFile
    comparison: ComparisonFile


class ComparisonSection(Section[Comparison]):
    """The adapter's scores, other systems' on the same rows, and which differences are real."""

    template = "comparison.html.j2"
    card_template = "comparison.md.j2"
    always = True

    def title(self) -> str:
        return "与其它系统比较"

    def compute(self) -> Comparison:
        run = self.run
        right = run.log_probs().argmax(axis=1) == run.true
        chosen = run.clean if run.clean.any() else ~run.clean
        columns = {
            name: [value for value, use in zip(values, chosen, strict=True) if use]
            for name, values in run.data.columns.items()
        }
        metrics = MetricsFile(
            method=run.scores.method,
            labels=list(run.rows.labels),
            official=run.official,
            leak_free=run.scores.leak_free,
            leaks_checked=run.data.leaks_checked,
            slices=slices(right[chosen], columns),
            provenance=run.provenance,
            notes=run.notes,
        )
        comparison = ComparisonFile(
            labels=list(run.rows.labels),
            n_official=len(run.rows.leak_free),
            n_leak_free=sum(run.rows.leak_free),
            systems=run.compared.systems,
            pairs=run.compared.pairs,
            provenance=run.provenance,
            notes=run.data.notes,
        )
        return Comparison(metrics, comparison)

    def files(self) -> dict[str, Model]:
        """Scores of the adapter alone do not replace an earlier comparison."""
        files: dict[str, Model] = {METRICS: self.result.metrics}
        if self.run.config.report or len(self.run.systems) > 1:
            files[COMPARISON] = self.result.comparison
        return files

    def show(self) -> None:
        show(self.result.comparison, plain_console())

    @cached_property
    def _pairs(self) -> list[Pair]:
        return [pair.readable() for pair in self.result.comparison.pairs]

    @cached_property
    def _against(self) -> dict[str, Pair]:
        """Name of another system -> the adapter against it."""
        return {pair.b: pair for pair in self._pairs if pair.a == ADAPTER}

    def headline(self) -> Headline:
        run, titles = self.run, self.run.titles
        fair = {name: pair for name, pair in self._against.items() if not pair.contaminated}
        better = [titles[name] for name, pair in fair.items() if pair.real and pair.decisive.difference < 0]
        rivals = {name: pair for name, pair in fair.items() if not name.startswith(ADAPTER)}
        beaten = [titles[name] for name, pair in rivals.items() if pair.real and pair.decisive.difference > 0]
        level = [titles[name] for name, pair in rivals.items() if not pair.real]
        where = "没见过的测试数据"
        if run.scores.leak_free is None:
            where = "测试数据（文本都在训练集里）"
        elif not run.data.leaks_checked:
            where = "测试数据（是否见过只核对了一部分）"
        accuracy = f"{percent(run.main.accuracy)}（95 % 区间 {interval(run.main.accuracy_ci95)}）"
        start = f"在 {run.main.n} 条{where}上准确率 {accuracy}。"
        if better:
            return Headline(BAD, f"{start}显著不如 {'、'.join(better)}，不建议用它。")
        if level:
            return Headline(CAUTION, f"{start}还不能确定比 {'、'.join(level)} 好，先别急着上线。")
        if not rivals:
            return Headline(CAUTION, f"{start}没有可作公平比较的基线。")
        return Headline(GOOD, f"{start}显著好于 {'、'.join(beaten)}。")

    def facts(self) -> Iterator[Fact]:
        scores = self.run.scores
        for name, item in (("准确率，无泄漏", scores.leak_free), ("准确率，官方", scores.official)):
            if item:
                yield Fact(name, percent(item.accuracy), f"{interval(item.accuracy_ci95)}，n={item.n}")
        if pair := self._against.get(ZERO_SHOT):
            difference = pair.decisive
            tone = (GOOD if difference.difference > 0 else BAD) if pair.real else CAUTION
            detail = f"个百分点 {interval(difference.ci95)}，n={difference.n}，{judgement(pair)}"
            yield Fact("比零样本", f"{100 * difference.difference:+.1f}", detail, tone)

    def weak_points(self) -> Iterator[WeakPoint]:
        metrics, main = self.result.metrics, self.run.main
        if metrics.leak_free is None:
            yield WeakPoint(10, "每条测试数据的文本都在训练集里，不能说明对新数据的表现。")
        elif not metrics.leaks_checked:
            yield WeakPoint(10, "有适配器的训练数据找不到，“无泄漏”只核对了一部分，成绩可能偏高。")
        yield from _lopsided(main)
        worse = sorted((item for item in metrics.slices if item.worse), key=lambda item: item.accuracy)
        if worse:
            named = (
                f"{item.column}“{item.value}” {percent(item.accuracy)} {interval(item.accuracy_ci95)}（n={item.n}）"
                for item in worse[:3]
            )
            yield WeakPoint(50, f"显著差于其余的分组：{'；'.join(named)}。")
        if metrics.leak_free and metrics.leak_free.n < metrics.official.n:
            n = metrics.official.n
            seen = n - metrics.leak_free.n
            yield WeakPoint(80, f"官方测试集 {n} 条里有 {seen} 条的文本也在训练集里；以无泄漏的成绩为准。")
        width = main.accuracy_ci95[1] - main.accuracy_ci95[0]
        if width > WIDE:
            yield WeakPoint(90, f"能用的测试数据只有 {main.n} 条，准确率的区间宽达 {100 * width:.0f} 个百分点。")

    def pictures(self) -> dict[str, Picture]:
        run, labels = self.run, self.run.rows.labels
        drawn = curves(run) if len(labels) == 2 and len(set(run.true.tolist())) == 2 else {}
        return {**drawn, "confusion": confusion(run.official, labels)}

    def context(self) -> dict[str, object]:
        return {
            "metrics": self.result.metrics,
            "comparison": self.result.comparison,
            "pairs": [(pair, pair_sentence(pair, self.run.titles)) for pair in self._pairs],
        }


def _lopsided(scores: Scores) -> Iterator[WeakPoint]:
    """One label is found less often than another, by more than their intervals."""
    recalls = sorted(
        (c.recall, c.label, c.recall_ci95) for c in scores.classes if c.recall is not None and c.recall_ci95 is not None
    )
    if len(recalls) < 2 or recalls[0][2][1] >= recalls[-1][2][0]:
        return
    (low, rare, ci), (high, common, _) = recalls[0], recalls[-1]
    yield WeakPoint(
        40,
        f"偏向“{common}”：“{rare}”只找出 {percent(low)} {interval(ci)}，“{common}”找出 {percent(high)}。",
    )
