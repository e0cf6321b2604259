"""What a full evaluation does after the comparison: confidence, robustness, explained errors, data audit.

Every stage scores through ``score_rows``, so a second run, or one after a crash, computes only what changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.artifact import Manifest, store_calibration
from zhsenti.core.hashing import file_sha256
from zhsenti.evaluation.baselines import System, polar_classes, rows_digest
from zhsenti.evaluation.compare import Compared
from zhsenti.evaluation.config import EvalConfig, FullEvalConfig
from zhsenti.evaluation.rows import EvalData
from zhsenti.evaluation.schema import (
    Challenge,
    ConfidenceFile,
    ErrorsFile,
    ExplainedError,
    FlipRate,
    LeakFreeConfidence,
    Provenance,
    RobustnessFile,
)
from zhsenti.evaluation.scoring import EvalRows, score_progress, score_rows
from zhsenti.evaluation.sections import robustness
from zhsenti.evaluation.sections.confidence import Temperature, coverage_curve, fit_temperature, quality, target
from zhsenti.evaluation.sections.perturb import PERTURBATIONS
from zhsenti.prediction import explain
from zhsenti.prediction.temperature import scale

if TYPE_CHECKING:
    from zhsenti.audit.findings import Audit
    from zhsenti.data.split import Example

QUICK_ITEMS = 3  # of the challenge set, a category and label
MAX_AUDITED = 200_000  # rows: more take minutes and gigabytes, which `zhsenti audit` may


@dataclass(frozen=True)
class Run:
    """One evaluation: its settings, rows, systems (the adapter under test among them) and their scores."""

    config: EvalConfig
    manifest: Manifest
    data: EvalData
    rows: EvalRows
    systems: list[System]
    compared: Compared
    provenance: Provenance

    @property
    def full(self) -> FullEvalConfig:
        """The settings of the stages after the comparison."""
        assert isinstance(self.config, FullEvalConfig)
        return self.config

    @property
    def cache(self) -> Path:
        return Path(self.config.output_dir) / "cache"

    @property
    def adapter(self) -> System:
        return next(system for system in self.systems if system.name == "adapter")

    @property
    def true(self) -> np.ndarray:
        return np.array([row.label for row in self.rows.examples])

    @property
    def clean(self) -> np.ndarray:
        return np.array(self.rows.leak_free, dtype=bool)

    def log_probs(self, temperature: float = 1.0) -> np.ndarray:
        """The adapter's class log-probabilities of the test rows, float64 (N, C)."""
        return scale(self.compared.scored["adapter"].log_probs, temperature)

    def score(self, system: System, examples: Sequence[Example], what: str) -> np.ndarray:
        """Class log-probabilities of other rows, through the cache."""
        rows = replace(self.rows, examples=list(examples), leak_free=[True] * len(examples))
        with score_progress() as progress:
            return score_rows(system, rows, self.cache, progress, what).log_probs


def confidence(run: Run) -> ConfidenceFile:
    """Fit the temperature on clean dev rows, check it on test rows, and store it in the adapter folder.

    It is not stored by a quick run, from other data or in another precision than the adapter's own, or where it could
    not be fitted.
    """
    from zhsenti.data.split import sample

    config, seed = run.full, run.config.seed
    dev = sample(run.data.dev, config.max_dev_samples, seed)
    dev_log_probs = np.zeros((0, len(run.rows.labels)))
    if dev:
        dev_log_probs = run.score(run.adapter, dev, "验证数据（校准用）")
    dev_true = np.array([row.label for row in dev], dtype=int)
    temperature = fit_temperature(dev_true, dev_log_probs, seed=seed)
    notes = [temperature.reason] if temperature.reason else []
    trained_in = run.manifest.base.get("precision")
    if config.quick:
        notes.append("快速评估的温度没有存进适配器")
    elif not run.data.same:
        notes.append("温度是在另一份数据上拟合的，没有存进适配器")
    elif config.precision not in ("auto", trained_in):
        notes.append(f"温度是在 {config.precision} 下拟合的（训练时是 {trained_in}），没有存进适配器")
    stored = not notes and _store(run, temperature, notes)
    if not stored and run.manifest.temperature != 1.0:
        notes.append(f"适配器里存着以前拟合的温度 {run.manifest.temperature:.2f}，预测仍用它")

    before, after = run.log_probs(), run.log_probs(temperature.value)
    leak_free = None
    if run.clean.any():
        true = run.true[run.clean]
        old, new = quality(true, before[run.clean], seed=seed), quality(true, after[run.clean], seed=seed)
        leak_free = LeakFreeConfidence(n=len(true), before=old, after=new)
    old, new = quality(run.true, before, seed=seed), quality(run.true, after, seed=seed)
    dev_scaled = scale(dev_log_probs, temperature.value)
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
        coverage=coverage_curve(*_confidence(after, run.true)),
        target=target(config.target_precision, _confidence(dev_scaled, dev_true), _confidence(after, run.true)),
        provenance=run.provenance,
        notes=notes,
    )


def _confidence(log_probs: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probability of the predicted label, whether it is right), both (N,)."""
    return np.exp(log_probs).max(axis=1), log_probs.argmax(axis=1) == true


def _store(run: Run, temperature: Temperature, notes: list[str]) -> bool:
    calibration = {
        "temperature": temperature.value,
        "temperature_ci95": temperature.ci95,
        "n": temperature.n,
        "rows": "dev rows whose text is in no training and no test row",
        "precision": run.manifest.base.get("precision"),
        "data_sha256": run.data.splits.sha256,
        "date": date.today().isoformat(),
    }
    try:
        store_calibration(Path(run.config.model_path), calibration)
    except OSError as error:
        notes.append(f"温度没能存进适配器文件夹：{error.strerror}")
        return False
    return True


def robust(run: Run, temperature: float) -> RobustnessFile:
    notes: list[str] = []
    return RobustnessFile(
        challenge=_challenge(run, temperature, notes),
        flip_rate=_flip_rates(run) if run.full.perturbation_samples else {},
        provenance=run.provenance,
        notes=notes,
    )


def _challenge(run: Run, temperature: float, notes: list[str]) -> Challenge | None:
    from zhsenti.data.split import Example

    if run.full.challenge == "none":
        return None
    if polar_classes(run.manifest.task) is None or run.rows.has_aspect:
        notes.append("挑战集只用于正负两类、不分方面的任务，没有运行")
        return None
    path = robustness.challenge_path(run.full.challenge)
    items = robustness.load_challenge(path)
    if run.full.quick:
        items = robustness.few_of_each(items, QUICK_ITEMS)
        notes.append(f"快速评估：挑战集的每类每个标签只用了 {QUICK_ITEMS} 条")
    examples = [Example(item.text, 0) for item in items]
    scores = {
        system.name: run.score(system, examples, f"挑战集：{system.title}")
        for system in run.systems
        if not system.not_applicable and system.gives_scores
    }
    adapter = scale(scores.pop("adapter"), temperature)
    return robustness.challenge_result(items, adapter, run.manifest.task, scores, file_sha256(path))


def _flip_rates(run: Run) -> dict[str, FlipRate]:
    from zhsenti.data.split import Example

    rates = {}
    before, rows = run.log_probs(), run.rows.examples
    # An injected label is the opposite of what the adapter gave, so that every row can flip.
    judged = [replace(row, label=int(k)) for row, k in zip(rows, before.argmax(axis=1), strict=True)]
    for kind, (title, _) in PERTURBATIONS.items():
        changed = robustness.perturbed_rows(
            judged, kind, run.full.perturbation_samples, run.config.seed, run.rows.labels
        )
        if not changed:
            continue
        index = [i for i, _ in changed]
        examples = [Example(text, rows[i].label, rows[i].aspect) for i, text in changed]
        after = run.score(run.adapter, examples, f"扰动：{title}")
        originals, texts = [rows[i].text for i in index], [text for _, text in changed]
        rates[kind] = robustness.flip_rate(title, before[index], after, run.true[index], originals, texts)
    return rates


def errors(run: Run, temperature: float) -> ErrorsFile:
    """The errors in which the adapter was surest, with the clauses and words its judgement hung on."""
    from zhsenti.data.split import Example

    log_probs = run.log_probs(temperature)
    sure, right = _confidence(log_probs, run.true)
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][: run.full.explain_errors]
    rows, predicted = run.rows.examples, log_probs.argmax(axis=1)

    def effects(variants: list[explain.Variants], what: str) -> list[list[explain.Unit]]:
        flat = [
            Example(text, 0, rows[i].aspect) for i, found in zip(worst, variants, strict=True) for text in found.texts
        ]
        if not flat:
            return [[] for _ in variants]
        scores = scale(run.score(run.adapter, flat, f"解释错误：{what}"), temperature)
        cuts = np.cumsum([0, *(len(found.texts) for found in variants)])
        return [
            explain.effects(found, log_probs[i], scores[a:b], int(predicted[i]))
            for i, found, a, b in zip(worst, variants, cuts, cuts[1:], strict=False)
        ]

    clauses = effects([explain.clause_variants(rows[i].text) for i in worst], "分句")
    words = effects([explain.word_variants(rows[i].text, found) for i, found in zip(worst, clauses, strict=True)], "词")
    labels = run.rows.labels
    explained = [
        ExplainedError(
            row=rows[i].row,
            text=explain.readable(rows[i].text),
            label=labels[rows[i].label],
            predicted=labels[int(predicted[i])],
            confidence=float(sure[i]),
            leak_free=bool(run.clean[i]),
            clauses=found,
            words=pieces,
        )
        for i, found, pieces in zip(worst, clauses, words, strict=True)
    ]
    return ErrorsFile(n_errors=len(wrong), errors=explained)


def audit(run: Run) -> Audit | None:
    """The data behind the numbers, audited once for each state of the data."""
    whole = run.data.whole
    if not run.full.audit or len(whole.train) + len(whole.dev) + len(whole.test) > MAX_AUDITED:
        return None
    from zhsenti.audit.command import audit_splits
    from zhsenti.audit.findings import FORMAT, Audit
    from zhsenti.core.files import write_json

    rows = [
        [rows_digest(part, labels=True), [row.row for row in part]] for part in (whole.train, whole.dev, whole.test)
    ]
    key = [FORMAT, rows, run.manifest.task.to_dict(), run.config.seed]
    digest = hashlib.sha256(json.dumps(key, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    path = run.cache / f"audit-{digest}.json"
    if path.is_file():
        try:
            return Audit.model_validate_json(path.read_bytes())
        except ValueError:
            pass  # torn or from another version: made again
    found = audit_splits(whole, run.manifest.task, seed=run.config.seed, manifest=run.manifest)
    write_json(path, found.model_dump(mode="json"))
    return found
