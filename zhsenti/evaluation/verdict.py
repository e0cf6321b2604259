"""The report's first screen: what the numbers say, the weak points among them. Pure; every sentence is Chinese."""

from __future__ import annotations

from dataclasses import dataclass, field

from zhsenti.data.audit.findings import Audit
from zhsenti.evaluation.schema import ComparisonFile, ConfidenceFile, Interval, MetricsFile, Pair, RobustnessFile

GOOD, CAUTION, BAD = "good", "caution", "bad"
WEAK_CATEGORY = 0.75  # of challenge items right: below it a category is named
WEAK_FLIP = 0.05  # flip rate whose interval lies above it
WEAK_ECE = 0.05
GAP = 0.05  # of recall between two labels


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


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%"


def interval(ci: Interval | None) -> str:
    return "" if ci is None else f"[{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"


def oriented(pair: Pair) -> tuple[str, float, Interval]:
    """The other system's name, and the adapter's accuracy minus its (with interval), of a pair with the adapter."""
    if pair.a == "adapter":
        return pair.b, pair.difference, pair.ci95
    return pair.a, -pair.difference, (-pair.ci95[1], -pair.ci95[0])


def verdict(results: Results) -> Verdict:
    titles = {system.name: system.title for system in results.comparison.systems}
    against = {oriented(pair)[0]: pair for pair in results.comparison.pairs if "adapter" in (pair.a, pair.b)}
    rivals = {
        name: pair
        for name, pair in against.items()
        if name != "majority" and not name.startswith("adapter") and not pair.contaminated
    }
    beaten = [titles[name] for name, pair in rivals.items() if pair.real and oriented(pair)[1] > 0]
    level = [titles[name] for name, pair in rivals.items() if not pair.real]
    better = [titles[name] for name, pair in rivals.items() if pair.real and oriented(pair)[1] < 0]
    main = results.metrics.leak_free or results.metrics.official
    where = "没见过的测试数据" if results.metrics.leak_free else "测试数据（文本都在训练集里）"
    headline = f"在 {main.n} 条{where}上准确率 {percent(main.accuracy)}（95 % 区间 {interval(main.accuracy_ci95)}）。"
    if better:
        tone, end = BAD, f"不如{'、'.join(better)}，不建议使用。"
    elif level:
        tone, end = CAUTION, f"还不能说比{'、'.join(level)}好，先别急着上线。"
    elif not rivals:
        tone, end = CAUTION, "没有与可作公平比较的基线对比。"
    else:
        tone, end = GOOD, f"确实好于{'、'.join(beaten)}。"
    weak = _weak(results, titles, level)
    if tone == GOOD and weak:
        tone, end = CAUTION, end + "上线前先看下面的弱点。"
    return Verdict(tone, headline + end, _facts(results, against, titles), weak, _advice(results))


def _facts(results: Results, against: dict[str, Pair], titles: dict[str, str]) -> list[Fact]:
    official, clean, confidence = results.metrics.official, results.metrics.leak_free, results.confidence
    facts = []
    if clean:
        facts.append(Fact("准确率，无泄漏", percent(clean.accuracy), f"{interval(clean.accuracy_ci95)}，n={clean.n}"))
    facts.append(
        Fact("准确率，官方", percent(official.accuracy), f"{interval(official.accuracy_ci95)}，n={official.n}")
    )
    if "zero_shot" in against:
        pair = against["zero_shot"]
        _, difference, ci = oriented(pair)
        said = "真差别" if pair.real else "不能说有差别"
        tone = (GOOD if difference > 0 else BAD) if pair.real else CAUTION
        facts.append(Fact("比零样本", f"{100 * difference:+.1f} 点", f"{interval(ci)}，{said}", tone))
    gap = confidence.after.mean_confidence - confidence.after.accuracy
    lean = "偏自信" if gap > 0.01 else "偏保守" if gap < -0.01 else "不偏"
    facts.append(
        Fact(
            "校准误差 ECE",
            f"{confidence.ece_after:.3f}",
            f"{interval_plain(confidence.after.ece_ci95)}，校准前 {confidence.ece_before:.3f}，{lean}",
            GOOD if confidence.ece_after <= WEAK_ECE else CAUTION,
        )
    )
    goal = confidence.target
    if goal.threshold is None or goal.to_person is None:
        facts.append(Fact(f"要 {percent(goal.precision, 0)} 准", "达不到", "没有这样的阈值", BAD))
    else:
        reached = (
            ""
            if goal.test_precision is None
            else f"实测 {percent(goal.test_precision)} {interval(goal.test_precision_ci95)}"
        )
        facts.append(
            Fact(
                f"要 {percent(goal.precision, 0)} 准，交给人",
                percent(goal.to_person),
                reached,
                CAUTION if goal.note else "",
            )
        )
    challenge = results.robustness.challenge
    if challenge:
        facts.append(
            Fact("挑战集", percent(challenge.accuracy), f"{interval(challenge.accuracy_ci95)}，n={challenge.n}")
        )
    return facts


def interval_plain(ci: Interval) -> str:
    return f"[{ci[0]:.3f}, {ci[1]:.3f}]"


def _weak(results: Results, titles: dict[str, str], level: list[str]) -> list[str]:
    official, clean = results.metrics.official, results.metrics.leak_free
    weak = [f"与{title}的差别在误差之内。" for title in level]
    challenge = results.robustness.challenge
    if challenge:
        poor = [
            (item.accuracy, f"{item.title} {percent(item.accuracy, 0)}（n={item.n}）")
            for item in challenge.by_category.values()
            if item.accuracy is not None and item.accuracy < WEAK_CATEGORY
        ]
        if poor:
            weak.append(f"挑战集里这些说法判不好：{'，'.join(text for _, text in sorted(poor)[:6])}。")
    flips = [
        (-item.rate, f"{item.title} {percent(item.rate)} {interval(item.ci95)}")
        for item in results.robustness.flip_rate.values()
        if item.ci95[0] > WEAK_FLIP
    ]
    if flips:
        weak.append(f"改动表面就会改判：{'，'.join(text for _, text in sorted(flips)[:4])}。")
    recalls = sorted((c.recall, c.label, c.recall_ci95) for c in official.classes if c.recall is not None)
    if len(recalls) > 1 and recalls[-1][0] - recalls[0][0] > GAP:
        low, high = recalls[0], recalls[-1]
        found = f"“{low[1]}”只找出 {percent(low[0])} {interval(low[2])}，“{high[1]}”找出 {percent(high[0])}"
        weak.append(f"偏向“{high[1]}”：{found}。")
    poor_slices = [
        (
            item.accuracy,
            f"{item.column}“{item.value}” {percent(item.accuracy)} {interval(item.accuracy_ci95)}（n={item.n}）",
        )
        for item in results.metrics.slices
        if item.accuracy_ci95[1] < official.accuracy
    ]
    if poor_slices:
        weak.append(f"明显差于整体的分组：{'；'.join(text for _, text in sorted(poor_slices)[:3])}。")
    confidence = results.confidence
    if confidence.ece_after > WEAK_ECE:
        weak.append(f"概率不够可信：校准后 ECE 仍有 {confidence.ece_after:.3f}。")
    if confidence.target.threshold is None or confidence.target.note:
        weak.append(confidence.target.note + "。")
    if clean is None:
        weak.append("每条测试数据的文本都在训练集里，成绩说明不了新数据。")
    elif clean.n < official.n:
        weak.append(f"官方测试集 {official.n} 条里有 {official.n - clean.n} 条的文本也在训练集里；以无泄漏的成绩为准。")
    wide = official.accuracy_ci95[1] - official.accuracy_ci95[0]
    if wide > 0.06:
        weak.append(f"测试数据只有 {official.n} 条，准确率的区间宽达 {100 * wide:.0f} 个百分点。")
    return weak


def _advice(results: Results) -> list[str]:
    goal, advice = results.confidence.target, []
    if goal.threshold is not None and goal.to_person is not None:
        rest = f"其余约 {percent(goal.to_person, 0)} 交给人看（见 low_confidence.csv）"
        advice.append(f"概率不低于 {goal.threshold:.3f} 的由机器判，{rest}。")
    if results.confidence.stored_in_adapter:
        advice.append(f"温度 {results.confidence.temperature:.2f} 已存进适配器，之后的预测给出的就是校准后的概率。")
    if results.audit and results.audit.suspects:
        advice.append(f"数据里有 {results.audit.suspects} 条标签值得人工复核（见 audit_findings.csv）。")
    return advice
