"""Does a judgement survive small changes, and hold where sentiment is hard to read? robustness_result.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from zhsenti.core.hashing import file_sha256
from zhsenti.evaluation.config import EvalConfig
from zhsenti.evaluation.drawing import Picture
from zhsenti.evaluation.schema import FORMAT, Model, Provenance
from zhsenti.evaluation.sections.base import Fact, Section, WeakPoint
from zhsenti.evaluation.sections.challenge import (
    Category,
    Challenge,
    challenge_path,
    challenge_result,
    few_of_each,
    load_challenge,
)
from zhsenti.evaluation.sections.confidence import temperature_of
from zhsenti.evaluation.sections.flips import FlipRate, flip_rate, perturbed_rows
from zhsenti.evaluation.sections.perturb import PERTURBATIONS
from zhsenti.evaluation.sections.robustness_pictures import robustness
from zhsenti.evaluation.systems import ADAPTER, polar_classes
from zhsenti.evaluation.wording import interval, percent
from zhsenti.prediction.temperature import scale

QUICK_ITEMS = 3  # a quick run takes this many challenge items of each category and label
WEAK_CATEGORY = 0.75  # a category with a smaller share right is named when its interval lies below the accuracy
WEAK_FLIP = 0.05  # a flip rate is named when its interval lies above this


class RobustnessFile(Model):
    """robustness_result.json.

    Attributes:
        challenge: None for tasks that are not negative and positive, and where it was not asked for.
        flip_rate: Kind of change -> how often it changes the label.
        provenance: Where the numbers come from.
        notes: What was not done, and why (Chinese).
    """

    format: int = FORMAT
    challenge: Challenge | None
    flip_rate: dict[str, FlipRate]
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)


class RobustnessSection(Section[RobustnessFile]):
    """A challenge set of hard sentences, and test rows changed in ways a person does not mind."""

    file = "robustness_result.json"
    template = "robustness.html.j2"
    card_template = "robustness.md.j2"

    @classmethod
    def check(cls, config: EvalConfig) -> None:
        if config.challenge != "none":
            load_challenge(challenge_path(config.challenge))

    def title(self) -> str:
        return "稳健性：挑战集与扰动"

    def compute(self) -> RobustnessFile:
        challenge, notes = self._challenge()
        return RobustnessFile(
            challenge=challenge,
            flip_rate=self._flip_rates() if self.run.config.perturbation_samples else {},
            provenance=self.run.provenance,
            notes=notes,
        )

    def _challenge(self) -> tuple[Challenge | None, list[str]]:
        """The adapter on the challenge set, and notes for the user."""
        from zhsenti.data.split import Example

        run, config = self.run, self.run.config
        if config.challenge == "none":
            return None, []
        if polar_classes(run.manifest.task) is None or run.rows.has_aspect:
            return None, ["挑战集只用于正负两类、不分方面的任务，没有运行"]
        path, notes = challenge_path(config.challenge), []
        items = load_challenge(path)
        if config.quick:
            items = few_of_each(items, QUICK_ITEMS)
            notes.append(f"快速评估：挑战集的每类每个标签只用了 {QUICK_ITEMS} 条")
        examples = [Example(item.text, 0) for item in items]
        scores = {
            system.name: run.score(system, examples, f"挑战集：{system.title}")
            for system in run.systems
            if not system.not_applicable and system.gives_scores
        }
        adapter = scale(scores.pop(ADAPTER), temperature_of(self))
        return challenge_result(items, adapter, run.manifest.task, scores, file_sha256(path)), notes

    def _flip_rates(self) -> dict[str, FlipRate]:
        from zhsenti.data.split import Example

        run, rates = self.run, {}
        before, rows = run.log_probs(), run.rows.examples
        # An injected label is the opposite of what the adapter gave, so that every row can flip.
        judged = [replace(row, label=int(k)) for row, k in zip(rows, before.argmax(axis=1), strict=True)]
        samples, seed = run.config.perturbation_samples, run.config.seed
        for kind, (title, _) in PERTURBATIONS.items():
            changed = perturbed_rows(judged, kind, samples, seed, run.rows.labels)
            if not changed:
                continue
            index = [i for i, _ in changed]
            examples = [Example(text, rows[i].label, rows[i].aspect) for i, text in changed]
            after = run.score(run.adapter, examples, f"扰动：{title}")
            originals, texts = [rows[i].text for i in index], [text for _, text in changed]
            rates[kind] = flip_rate(title, before[index], after, run.true[index], originals, texts)
        return rates

    def facts(self) -> Iterator[Fact]:
        challenge = self.result.challenge
        if challenge:
            yield Fact("挑战集", percent(challenge.accuracy), f"{interval(challenge.accuracy_ci95)}，n={challenge.n}")

    def weak_points(self) -> Iterator[WeakPoint]:
        challenge = self.result.challenge
        poor = [item for item in challenge.by_category.values() if self._is_weak(item)] if challenge else []
        if poor:
            worst = sorted(poor, key=lambda item: item.accuracy or 0)[:6]
            named = (f"{item.title} {percent(item.accuracy or 0, 0)}" for item in worst)
            yield WeakPoint(20, f"挑战集里这些说法判不好（每类 {poor[0].n} 条左右）：{'，'.join(named)}。")
        fragile = sorted(filter(weak_flip, self.result.flip_rate.values()), key=lambda item: -item.rate)
        if fragile:
            named = (f"{item.title} {percent(item.rate)} {interval(item.ci95)}" for item in fragile[:4])
            yield WeakPoint(30, f"改动表面就会改判：{'，'.join(named)}。")

    def _is_weak(self, item: Category) -> bool:
        """Scored, under WEAK_CATEGORY, and worse than the test rows by more than its interval."""
        if item.accuracy is None or item.accuracy_ci95 is None:
            return False
        return item.accuracy < WEAK_CATEGORY and item.accuracy_ci95[1] < self.run.main.accuracy

    def pictures(self) -> dict[str, Picture]:
        challenge = self.result.challenge
        picture = robustness(challenge.by_category if challenge else {}, self.result.flip_rate)
        return {"robustness": picture} if picture else {}

    def context(self) -> dict[str, object]:
        return {"titles": self.run.titles, "weak_category": self._is_weak, "weak_flip": weak_flip}


def weak_flip(item: FlipRate) -> bool:
    """Whether the rate is high by more than chance."""
    return item.ci95[0] > WEAK_FLIP
