"""Can the probabilities be believed, and from which one on may the machine decide alone? confidence_analysis.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from zhsenti.artifact import store_calibration
from zhsenti.core.console import say
from zhsenti.core.errors import ArtifactError
from zhsenti.evaluation.drawing import Picture
from zhsenti.evaluation.run import confidence
from zhsenti.evaluation.schema import FORMAT, Interval, Model, Provenance
from zhsenti.evaluation.sections.base import BAD, CAUTION, GOOD, AnySection, Fact, Section, WeakPoint
from zhsenti.evaluation.sections.calibration import Quality, Temperature, fit_temperature, quality
from zhsenti.evaluation.sections.confidence_pictures import coverage, reliability
from zhsenti.evaluation.sections.thresholds import CoveragePoint, Judged, Target, coverage_curve, target
from zhsenti.evaluation.wording import interval, percent
from zhsenti.prediction.temperature import scale

if TYPE_CHECKING:
    from zhsenti.data.split import Example

WEAK_ECE = 0.03  # above it, and above what chance explains, probabilities are called poor


class LeakFreeConfidence(Model):
    """The same on the clean rows."""

    n: int
    before: Quality
    after: Quality


class ConfidenceFile(Model):
    """confidence_analysis.json. The temperature is fitted on dev rows whose text is in no training and no test row.

    Attributes:
        n: Test rows.
        temperature: 1.0 where it could not be fitted.
        temperature_ci95: Its bootstrap interval.
        n_fit: Dev rows it was fitted on.
        stored_in_adapter: Whether predictions use it from now on.
        ece_before: Calibration error of the test rows as the model gives them.
        ece_after: The same after the temperature.
        before: All figures of the calibration as the model gives them.
        after: The same after the temperature.
        leak_free: Both on the clean rows; None where there are none.
        coverage: What is right among the most confident rows.
        target: The threshold for the precision that was asked for.
        provenance: Where the numbers come from.
        notes: What to know of it (Chinese).
    """

    format: int = FORMAT
    n: int
    temperature: float
    temperature_ci95: Interval | None
    n_fit: int
    stored_in_adapter: bool
    ece_before: float
    ece_after: float
    before: Quality
    after: Quality
    leak_free: LeakFreeConfidence | None
    coverage: list[CoveragePoint]
    target: Target
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


def temperature_of(section: AnySection) -> float:
    """The temperature that an earlier section has fitted; 1.0 where none has."""
    fitted = section.find(ConfidenceFile)
    return fitted.temperature if fitted else 1.0


class ConfidenceSection(Section[ConfidenceFile]):
    """Fits the temperature on clean dev rows, checks it on test rows, and stores it in the adapter's folder."""

    file = "confidence_analysis.json"
    template = "confidence.html.j2"
    card_template = "confidence.md.j2"

    def title(self) -> str:
        return "置信度与校准"

    def compute(self) -> ConfidenceFile:
        run, seed = self.run, self.run.config.seed
        dev = self._dev()
        dev_log_probs = np.zeros((0, len(run.rows.labels)))
        if dev:
            dev_log_probs = run.score(run.adapter, dev, "验证数据（校准用）")
        dev_true = np.array([row.label for row in dev], dtype=int)
        temperature = fit_temperature(dev_true, dev_log_probs, seed=seed)
        stored, notes = self._store(temperature)
        before, after = run.log_probs(), run.log_probs(temperature.value)
        leak_free = None
        if run.clean.any():
            true = run.true[run.clean]
            old, new = quality(true, before[run.clean], seed=seed), quality(true, after[run.clean], seed=seed)
            leak_free = LeakFreeConfidence(n=len(true), before=old, after=new)
        old, new = quality(run.true, before, seed=seed), quality(run.true, after, seed=seed)
        judged_dev, judged_test = _judged(scale(dev_log_probs, temperature.value), dev_true), _judged(after, run.true)
        return ConfidenceFile(
            n=len(run.true),
            temperature=temperature.value,
            temperature_ci95=temperature.ci95,
            n_fit=temperature.n,
            stored_in_adapter=stored,
            ece_before=old.ece,
            ece_after=new.ece,
            before=old,
            after=new,
            leak_free=leak_free,
            coverage=coverage_curve(*judged_test),
            target=target(run.config.target_precision, judged_dev, judged_test),
            provenance=run.provenance,
            notes=notes,
        )

    def _dev(self) -> Sequence[Example]:
        from zhsenti.data.split import sample

        return sample(self.run.data.dev, self.run.config.max_dev_samples, self.run.config.seed)

    def _store(self, temperature: Temperature) -> tuple[bool, list[str]]:
        """Put the temperature into the adapter's folder, unless something speaks against it.

        A quick run does not, nor one on other data or in another precision than the adapter's own.

        Returns:
            Whether it is stored, and notes for the user.
        """
        run, config = self.run, self.run.config
        trained_in = run.manifest.base.get("precision", run.precision)
        notes = [temperature.reason] if temperature.reason else []
        if config.quick:
            notes.append("快速评估的温度没有存进适配器")
        elif not run.data.same:
            notes.append("温度是在另一份数据上拟合的，没有存进适配器")
        elif run.precision != trained_in:
            notes.append(f"温度是在 {run.precision} 下拟合的（训练时是 {trained_in}），没有存进适配器")
        if not notes:
            try:
                store_calibration(run.artifact, self._record(temperature))
            except (ArtifactError, OSError) as error:
                reason = error.problem if isinstance(error, ArtifactError) else error.strerror
                notes.append(f"温度没能存进适配器文件夹：{reason}")
            else:
                return True, notes
        if run.manifest.temperature != 1.0:
            notes.append(f"适配器里存着以前拟合的温度 {run.manifest.temperature:.2f}，预测仍用它")
        return False, notes

    def _record(self, temperature: Temperature) -> dict[str, object]:
        return {
            "temperature": temperature.value,
            "temperature_ci95": temperature.ci95,
            "n": temperature.n,
            "rows": "dev rows whose text is in no training and no test row",
            "precision": self.run.precision,
            "data_sha256": self.run.data.splits.sha256,
            "date": date.today().isoformat(),
        }

    def show(self) -> None:
        for note in self.result.notes:
            say(note, indent=1)

    @cached_property
    def _is_poor(self) -> bool:
        """Off by enough to matter, and by more than chance gives probabilities that are right."""
        after = self.result.after
        return after.ece > WEAK_ECE and after.ece > after.ece_chance[1]

    def facts(self) -> Iterator[Fact]:
        after = self.result.after
        gap = after.mean_confidence - after.accuracy
        lean = "略偏自信" if gap > 0.01 else "略偏保守" if gap < -0.01 else "不偏"
        low, high = after.ece_ci95
        yield Fact(
            "校准误差 ECE",
            f"{after.ece:.3f}",
            f"[{low:.3f}, {high:.3f}]，校准前 {self.result.ece_before:.3f}，{lean}",
            CAUTION if self._is_poor else GOOD,
        )
        yield _target_fact(self.result.target)

    def weak_points(self) -> Iterator[WeakPoint]:
        after, goal = self.result.after, self.result.target
        if self._is_poor:
            chance = f"概率全对时只该有约 {after.ece_chance[0]:.3f}"
            yield WeakPoint(60, f"概率不够可信：校准后 ECE 仍有 {after.ece:.3f}（{chance}）。")
        if goal.note:
            yield WeakPoint(70, f"目标准确率 {100 * goal.precision:g} %：{goal.note}。")

    def advice(self) -> Iterator[str]:
        result, goal = self.result, self.result.target
        if goal.threshold is not None and goal.to_person is not None:
            rest = f"其余约 {percent(goal.to_person, 0)} 交给人看（见 low_confidence.csv）"
            sentence = f"概率不低于 {goal.threshold:.3f} 的由机器判，{rest}。"
            if not result.stored_in_adapter and result.temperature != 1.0:
                sentence += (
                    f"这是除以温度 {result.temperature:.2f} 之后的概率；温度没有存进适配器，预测给出的与它不同。"
                )
            yield sentence
        if result.stored_in_adapter:
            yield f"温度 {result.temperature:.2f} 已存进适配器，之后的预测给出的就是校准后的概率。"

    def pictures(self) -> dict[str, Picture]:
        return {
            "reliability": reliability(self.result.before, self.result.after),
            "coverage": coverage(self.result.coverage, self.result.target.precision),
        }


def _judged(log_probs: np.ndarray, true: np.ndarray) -> Judged:
    return confidence(log_probs), log_probs.argmax(axis=1) == true


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
