"""From results to files: JSONs, CSVs, predictions, pictures, one offline HTML page and a model card."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zhsenti.audit.findings import Finding, masked
from zhsenti.audit.view import audit_view
from zhsenti.core.files import replacing, write_text
from zhsenti.core.templates import environment
from zhsenti.data.tables import write_csv
from zhsenti.data.text import readable
from zhsenti.evaluation.report import pictures as plots
from zhsenti.evaluation.report.card import store_card, write_card
from zhsenti.evaluation.report.verdict import (
    Results,
    Verdict,
    interval,
    pair_sentence,
    percent,
    verdict,
    weak_category,
    weak_flip,
)
from zhsenti.evaluation.schema import ComparisonFile, ConfidenceFile, ErrorsFile, ExplainedError, MetricsFile, write
from zhsenti.evaluation.sections import stages
from zhsenti.prediction.temperature import scale

if TYPE_CHECKING:
    from rich.console import Console

    from zhsenti.evaluation.sections.stages import Run

CONFIDENCE, ROBUSTNESS, ERRORS, REPORT = (
    "confidence_analysis.json",
    "robustness_result.json",
    "errors.json",
    "report.html",
)
AUDIT_CSV, CARD_COPY = "audit_findings.csv", "model_card.md"


def full_report(run: Run, metrics: MetricsFile, comparison: ComparisonFile, console: Console) -> list[str]:
    """All stages after the comparison, each file as soon as its stage is done. Returns the names of all files."""
    folder, config = Path(run.config.output_dir), run.full

    def stage(number: int, title: str) -> None:
        console.print(f"[{number}/5] {title}", markup=False)

    stage(1, "置信度与校准")
    confidence = stages.confidence(run)
    write(folder / CONFIDENCE, confidence)
    for note in confidence.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    stage(2, "稳健性：挑战集与扰动")
    robustness = stages.robust(run, confidence.temperature)
    write(folder / ROBUSTNESS, robustness)
    stage(3, f"解释最严重的 {config.explain_errors} 条错误")
    errors = stages.errors(run, confidence.temperature)
    write(folder / ERRORS, errors)
    stage(4, "数据审计")
    audit = stages.audit(run)
    if not audit:
        console.print(f"  跳过{'：数据太大，请单独运行 zhsenti audit' if config.audit else ''}", markup=False)
    stage(5, "图、表与报告")
    results = Results(metrics, comparison, confidence, robustness, audit)
    tables = _tables(run, confidence, folder)
    (folder / AUDIT_CSV).unlink(missing_ok=True)
    if audit:
        columns = list(Finding.model_fields)
        cells = ([getattr(item, name) for name in columns] for item in audit.findings)
        write_csv(folder / AUDIT_CSV, columns, cells)
        tables.append(AUDIT_CSV)
    judged = verdict(results)
    write_text(folder / REPORT, page(run, results, errors, judged, _pictures(run, results, folder / "plots")))
    write_card(folder / CARD_COPY, run, results, judged)
    if not config.quick and run.data.same and len(run.true) == len(run.data.whole.test):
        said = store_card(folder / CARD_COPY, Path(config.model_path))
        console.print(f"  {said}", markup=False, soft_wrap=True)
    print(f"\n{judged.headline}")
    for sentence in judged.weak:
        print(f"  · {sentence}")
    return [CONFIDENCE, ROBUSTNESS, ERRORS, "predictions.parquet", *tables, CARD_COPY, "plots/", REPORT]


def _tables(run: Run, confidence: ConfidenceFile, folder: Path) -> list[str]:
    """predictions.parquet (every test row), errors.csv (surest first), low_confidence.csv (least sure first)."""
    rows, labels = run.rows.examples, run.rows.labels
    log_probs = run.log_probs(confidence.temperature)
    probs, predicted = np.exp(log_probs), log_probs.argmax(axis=1)
    sure, right = probs.max(axis=1), predicted == run.true
    columns: dict[str, Any] = {
        "row": [row.row for row in rows],
        "text": [readable(row.text) for row in rows],
        "label": [labels[k] for k in run.true],
        "predicted": [labels[k] for k in predicted],
        "correct": right.tolist(),
        "confidence": sure.tolist(),
        "leak_free": [bool(free) for free in run.rows.leak_free],
    }
    if run.rows.has_aspect:
        columns["aspect"] = [readable(row.aspect or "") for row in rows]
    columns |= {f"p_{label}": probs[:, k].tolist() for k, label in enumerate(labels)}
    for name, scored in run.compared.scored.items():
        if name != "adapter":
            columns[f"{name}_predicted"] = [labels[k] for k in scored.log_probs.argmax(axis=1)]
    _write_parquet(folder / "predictions.parquet", columns)

    names = ["row", "text", *(["aspect"] if run.rows.has_aspect else [])]
    names += ["label", "predicted", "confidence", "leak_free"]
    cells = list(zip(*(columns[name] for name in names), strict=True))
    worst = np.argsort(-sure, kind="stable")
    write_csv(folder / "errors.csv", names, (cells[i] for i in worst if not right[i]))
    threshold = confidence.target.threshold
    least = worst[::-1]
    unsure = [i for i in least if sure[i] < threshold] if threshold is not None else least[: -(-len(least) // 5)]
    write_csv(folder / "low_confidence.csv", names, (cells[i] for i in unsure))
    return ["errors.csv", "low_confidence.csv"]


def _write_parquet(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)


def _pictures(run: Run, results: Results, folder: Path) -> dict[str, str]:
    """name -> SVG; a PNG of each lies in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):  # of a run with other stages
        old.unlink(missing_ok=True)
    labels, true = run.rows.labels, run.true
    drawn: dict[str, tuple[plots.Draw, tuple[float, float]]] = {}
    if len(labels) == 2 and len(set(true.tolist())) == 2:
        curves = []
        for system in reversed(run.systems):
            if system.gives_scores and system.name in run.compared.scored:
                scores = scale(run.compared.scored[system.name].log_probs, 1.0)
                curves.append((system.title, true == 1, scores[:, 1] - scores[:, 0]))
        roc, pr = plots.roc_and_pr(curves, labels[1])
        drawn |= {"roc": (roc, (5.2, 3.8)), "pr": (pr, (5.2, 3.8))}
    size = 2.6 + 0.5 * len(labels)
    drawn["confusion"] = (plots.confusion(results.metrics.official, labels), (size + 0.6, size))
    drawn["reliability"] = (plots.reliability(results.confidence), (5.2, 3.8))
    drawn["coverage"] = (plots.coverage(results.confidence), (5.2, 3.8))
    if results.robustness.challenge or results.robustness.flip_rate:
        rows = len(results.robustness.flip_rate)
        if results.robustness.challenge:
            rows += sum(item.scored for item in results.robustness.challenge.by_category.values())
        drawn["robustness"] = (plots.robustness(results.robustness), (6.4, 1.4 + 0.27 * rows))
    return {name: plots.render(name, draw, folder, size) for name, (draw, size) in drawn.items()}


def ends(text: str, limit: int = 60) -> str:
    """A long text's beginning and end: some changes are at the end."""
    text = masked(text)
    return text if len(text) <= limit else f"{text[: limit // 2]}……{text[-limit // 2 :]}"


def page(run: Run, results: Results, errors: ErrorsFile, judged: Verdict, pictures: dict[str, str]) -> str:
    """report.html. Pictures are our own SVG (matplotlib escapes the words in them), all else is escaped."""
    from markupsafe import Markup

    titles = {system.name: system.title for system in results.comparison.systems}
    made = environment("zhsenti.evaluation", "zhsenti.audit")
    made.filters |= {"percent": percent, "interval": interval, "ends": ends}
    return made.get_template("report.html.j2").render(
        verdict=judged,
        metrics=results.metrics,
        comparison=results.comparison,
        confidence=results.confidence,
        robustness=results.robustness,
        errors=errors,
        coloured=coloured,
        weak_category=lambda item: weak_category(item, results),
        weak_flip=weak_flip,
        audit=audit_view(results.audit) if results.audit else None,
        pictures={name: Markup(svg) for name, svg in pictures.items()},
        titles=titles,
        pairs=[(pair, pair_sentence(pair, titles)) for pair in (p.readable() for p in results.comparison.pairs)],
        task=run.manifest.task,
        base=run.manifest.base.get("model_id", "未知"),
        revision=run.manifest.base.get("revision", "未知"),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def coloured(error: ExplainedError) -> list[tuple[str, str]]:
    """The text in pieces with a class each: p1 to p4 speak for the predicted label, n1 to n4 against it."""
    pieces, at, text = [], 0, masked(error.text)
    strongest = max((abs(unit.effect) for unit in error.words), default=0.0) or 1.0
    for unit in error.words:
        pieces.append((text[at : unit.start], ""))
        level = round(4 * abs(unit.effect) / strongest)
        sign = "p" if unit.effect > 0 else "n"
        pieces.append((text[unit.start : unit.end], f"{sign}{level}" if level else ""))
        at = unit.end
    pieces.append((text[at:], ""))
    return [piece for piece in pieces if piece[0]]
