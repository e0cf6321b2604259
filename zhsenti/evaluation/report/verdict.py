"""The report's first screen: what the numbers say, the weak points among them. Pure; every sentence is Chinese."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zhsenti.audit.findings import Audit
from zhsenti.evaluation.schema import (
    Category,
    ComparisonFile,
    ConfidenceFile,
    FlipRate,
    Interval,
    MetricsFile,
    Pair,
    RobustnessFile,
    Scores,
    Target,
)

GOOD, CAUTION, BAD = "good", "caution", "bad"
WEAK_CATEGORY = 0.75  # of challenge items right: a category below it is named when its interval lies below the accuracy
WEAK_FLIP = 0.05  # a flip rate is named when its interval lies above
WEAK_ECE = 0.03  # and more than chance explains
WIDE = 0.06  # of the accuracy's interval


@dataclass(frozen=True)
class Fact:
    """One figure of the first screen: ``value`` large, ``detail`` (interval, n, against what) small."""

    name: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Verdict:
    """``tone`` good, caution or bad;  ``weak`` what a person must know before using it, worst first."""

    tone: str
    headline: str
    facts: list[Fact] = field(default_factory=list)
    weak: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """All files of one evaluation."""

    metrics: MetricsFile
    comparison: ComparisonFile
    confidence: ConfidenceFile
    robustness: RobustnessFile
    audit: Audit | None

    @property
    def main(self) -> Scores:
        """The scores that decide."""
        return self.metrics.leak_free or self.metrics.official


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def interval(ci: Interval | None) -> str:
    return "" if ci is None else f"[{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"


def pair_sentence(pair: Pair, titles: dict[str, str]) -> str:
    """``A 比 B 高 6.5 个百分点 [4.2, 8.8]，p < 0.001：差别显著`` of a ``readable`` pair, on the rows that decide."""
    found = pair.decisive
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.3f}"
    said = "差别显著" if pair.real else "还不能确定有差别"
    marked = "（含训练语料里有测试数据的系统）" if pair.contaminated else ""
    low, high = sorted(100 * end * (1 if found.difference >= 0 else -1) for end in found.ci95)
    size = f"{'高' if found.difference > 0 else '低'} {100 * abs(found.difference):.1f} 个百分点"
    if found.difference == 0:
        size = "相差 0.0 个百分点"
    return f"{titles[pair.a]} 比 {titles[pair.b]} {size} [{low:.1f}, {high:.1f}]，{p}：{said}{marked}"


def verdict(results: Results) -> Verdict:
    titles = {system.name: system.title for system in results.comparison.systems}
    against = {pair.b: pair for pair in (p.readable() for p in results.comparison.pairs) if pair.a == "adapter"}
    fair = {name: pair for name, pair in against.items() if not pair.contaminated}
    better = [titles[name] for name, pair in fair.items() if pair.real and pair.decisive.difference < 0]
    rivals = {name: pair for name, pair in fair.items() if not name.startswith("adapter")}
    beaten = [titles[name] for name, pair in rivals.items() if pair.real and pair.decisive.difference > 0]
    level = [titles[name] for name, pair in rivals.items() if not pair.real]
    main, where = results.main, "没见过的测试数据"
    if results.metrics.leak_free is None:
        where = "测试数据（文本都在训练集里）"
    elif not results.metrics.leaks_checked:
        where = "测试数据（是否见过只核对了一部分）"
    headline = f"在 {main.n} 条{where}上准确率 {percent(main.accuracy)}（95 % 区间 {interval(main.accuracy_ci95)}）。"
    if better:
        tone, end = BAD, f"显著不如 {'、'.join(better)}，不建议用它。"
    elif level:
        tone, end = CAUTION, f"还不能确定比 {'、'.join(level)} 好，先别急着上线。"
    elif not rivals:
        tone, end = CAUTION, "没有可作公平比较的基线。"
    else:
        tone, end = GOOD, f"显著好于 {'、'.join(beaten)}。"
    weak = _weak(results)
    if tone == GOOD and weak:
        tone, end = CAUTION, end + "上线前先看下面的弱点。"
    return Verdict(tone, headline + end, list(_facts(results, against.get("zero_shot"))), weak, _advice(results))


def _facts(results: Results, zero_shot: Pair | None) -> Iterable[Fact]:
    official, clean, confidence = results.metrics.official, results.metrics.leak_free, results.confidence
    for name, scores in (("准确率，无泄漏", clean), ("准确率，官方", official)):
        if scores:
            yield Fact(name, percent(scores.accuracy), f"{interval(scores.accuracy_ci95)}，n={scores.n}")
    if zero_shot:
        found = zero_shot.decisive
        said = "差别显著" if zero_shot.real else "还不能确定有差别"
        tone = (GOOD if found.difference > 0 else BAD) if zero_shot.real else CAUTION
        detail = f"个百分点 {interval(found.ci95)}，n={found.n}，{said}"
        yield Fact("比零样本", f"{100 * found.difference:+.1f}", detail, tone)
    after = confidence.after
    gap = after.mean_confidence - after.accuracy
    lean = "略偏自信" if gap > 0.01 else "略偏保守" if gap < -0.01 else "不偏"
    low, high = after.ece_ci95
    yield Fact(
        "校准误差 ECE",
        f"{after.ece:.3f}",
        f"[{low:.3f}, {high:.3f}]，校准前 {confidence.ece_before:.3f}，{lean}",
        CAUTION if _poorly_calibrated(confidence) else GOOD,
    )
    yield _target_fact(confidence.target)
    challenge = results.robustness.challenge
    if challenge:
        yield Fact("挑战集", percent(challenge.accuracy), f"{interval(challenge.accuracy_ci95)}，n={challenge.n}")


def _target_fact(goal: Target) -> Fact:
    name = f"目标准确率 {100 * goal.precision:g} %"
    if goal.to_person is None:
        value = "无法确定" if goal.outcome == "unknown" else "达不到"
        return Fact(name, value, goal.note, BAD if goal.outcome == "unreachable" else CAUTION)
    reached = ""
    if goal.test_precision is not None:
        reached = f"，机器判的实测 {percent(goal.test_precision)} {interval(goal.test_precision_ci95)}"
    tone = {"reached": GOOD, "missed": BAD}.get(goal.outcome, CAUTION)
    return Fact(name, percent(goal.to_person), f"交给人{reached}", tone)


def _poorly_calibrated(confidence: ConfidenceFile) -> bool:
    """Off by enough to matter, and by more than chance gives probabilities that are right."""
    after = confidence.after
    return after.ece > WEAK_ECE and after.ece > after.ece_chance[1]


def weak_category(item: Category, results: Results) -> bool:
    """Scored, under WEAK_CATEGORY, and worse than the test rows by more than its interval."""
    if item.accuracy is None or item.accuracy_ci95 is None:
        return False
    return item.accuracy < WEAK_CATEGORY and item.accuracy_ci95[1] < results.main.accuracy


def weak_flip(item: FlipRate) -> bool:
    return item.ci95[0] > WEAK_FLIP


def _weak(results: Results) -> list[str]:
    metrics, main, weak = results.metrics, results.main, []
    if metrics.leak_free is None:
        weak.append("每条测试数据的文本都在训练集里，不能说明对新数据的表现。")
    elif not metrics.leaks_checked:
        weak.append("有适配器的训练数据找不到，“无泄漏”只核对了一部分，成绩可能偏高。")
    challenge, flips = results.robustness.challenge, results.robustness.flip_rate.values()
    poor = [item for item in challenge.by_category.values() if weak_category(item, results)] if challenge else []
    if poor:
        named = (f"{c.title} {percent(c.accuracy or 0, 0)}" for c in sorted(poor, key=lambda c: c.accuracy or 0)[:6])
        weak.append(f"挑战集里这些说法判不好（每类 {poor[0].n} 条左右）：{'，'.join(named)}。")
    fragile = sorted((item for item in flips if weak_flip(item)), key=lambda item: -item.rate)
    if fragile:
        named = (f"{item.title} {percent(item.rate)} {interval(item.ci95)}" for item in fragile[:4])
        weak.append(f"改动表面就会改判：{'，'.join(named)}。")
    weak += _lopsided(main)
    slices = sorted((item for item in metrics.slices if item.worse), key=lambda item: item.accuracy)
    if slices:
        named = (
            f"{item.column}“{item.value}” {percent(item.accuracy)} {interval(item.accuracy_ci95)}（n={item.n}）"
            for item in slices[:3]
        )
        weak.append(f"显著差于其余的分组：{'；'.join(named)}。")
    if _poorly_calibrated(results.confidence):
        after = results.confidence.after
        weak.append(f"概率不够可信：校准后 ECE 仍有 {after.ece:.3f}（概率全对时只该有约 {after.ece_chance[0]:.3f}）。")
    if results.confidence.target.note:
        goal = results.confidence.target
        weak.append(f"目标准确率 {100 * goal.precision:g} %：{goal.note}。")
    if metrics.leak_free and metrics.leak_free.n < metrics.official.n:
        seen = metrics.official.n - metrics.leak_free.n
        weak.append(f"官方测试集 {metrics.official.n} 条里有 {seen} 条的文本也在训练集里；以无泄漏的成绩为准。")
    wide = main.accuracy_ci95[1] - main.accuracy_ci95[0]
    if wide > WIDE:
        weak.append(f"能用的测试数据只有 {main.n} 条，准确率的区间宽达 {100 * wide:.0f} 个百分点。")
    return weak


def _lopsided(scores: Scores) -> list[str]:
    """One label is found less often than another, by more than their intervals."""
    found = sorted(
        (c.recall, c.label, c.recall_ci95) for c in scores.classes if c.recall is not None and c.recall_ci95 is not None
    )
    if len(found) < 2 or found[0][2][1] >= found[-1][2][0]:
        return []
    (low, rare, ci), (high, common, _) = found[0], found[-1]
    return [f"偏向“{common}”：“{rare}”只找出 {percent(low)} {interval(ci)}，“{common}”找出 {percent(high)}。"]


def _advice(results: Results) -> list[str]:
    confidence, advice = results.confidence, []
    goal = confidence.target
    if goal.threshold is not None and goal.to_person is not None:
        rest = f"其余约 {percent(goal.to_person, 0)} 交给人看（见 low_confidence.csv）"
        sentence = f"概率不低于 {goal.threshold:.3f} 的由机器判，{rest}。"
        if not confidence.stored_in_adapter and confidence.temperature != 1.0:
            sentence += (
                f"这是除以温度 {confidence.temperature:.2f} 之后的概率；温度没有存进适配器，预测给出的与它不同。"
            )
        advice.append(sentence)
    if confidence.stored_in_adapter:
        advice.append(f"温度 {confidence.temperature:.2f} 已存进适配器，之后的预测给出的就是校准后的概率。")
    if results.audit and results.audit.suspects:
        advice.append(f"数据里有 {results.audit.suspects} 条标签值得人工复核（见 audit_findings.csv）。")
    return advice
