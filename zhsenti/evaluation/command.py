"""``zhsenti evaluate``: an adapter on test rows, beside baselines; JSONs, and a report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from zhsenti.artifact import WEIGHTS, Artifact, Manifest, open_artifact
from zhsenti.core.console import say, tell
from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable
from zhsenti.core.flags import parse, program, split_names, typed
from zhsenti.core.paths import user_path
from zhsenti.core.provenance import command_line, library_versions, machine_identity
from zhsenti.data.config import DataConfig
from zhsenti.evaluation.baselines import build_baselines, parse_baselines
from zhsenti.evaluation.compare import compare
from zhsenti.evaluation.config import QUICK, EvalConfig
from zhsenti.evaluation.rows import EvalData, load_eval_data
from zhsenti.evaluation.run import Run
from zhsenti.evaluation.schema import Provenance, write
from zhsenti.evaluation.scoring import EvalRows
from zhsenti.evaluation.sections import SECTIONS
from zhsenti.evaluation.systems import Context, Identity, System, adapter_system
from zhsenti.methods import DEFAULT_ADAPTER

if TYPE_CHECKING:
    from zhsenti.evaluation.sections.base import AnySection
    from zhsenti.evaluation.systems import Predictor

EXAMPLES = (
    "zhsenti evaluate --quick",
    f"zhsenti evaluate --model_path {DEFAULT_ADAPTER} --slice_columns 城市",
    "zhsenti evaluate --dataset 评论.csv --baselines tfidf,zero_shot",
    "zhsenti evaluate --report false --baselines none",
)


def main(argv: list[str] | None = None, defaults: Mapping[str, Any] | None = None) -> int:
    """The command.

    Args:
        argv: The words after ``zhsenti evaluate``; None for those of the process.
        defaults: Settings of an alias that hold where neither the user nor a YAML says otherwise.

    Raises:
        ZhsentiError: A user's mistake; nothing has been written then.
    """
    about = "在测试数据上评估适配器，与基线比较，写成报告"
    config, sources = parse(EvalConfig, argv, about, examples=EXAMPLES, defaults=defaults)
    if config.quick:
        config = replace(config, **{name: value for name, value in QUICK.items() if name not in sources})
    for name, origin in sources.items():
        say(f"{name} = {getattr(config, name)}（{origin}）", indent=1)
    kinds = [kind for kind in map(SECTIONS.load, SECTIONS) if kind.always or config.report]
    run = evaluate(config, _typed(argv), kinds)
    sections, written = compute(run, kinds)
    if config.report:
        from zhsenti.evaluation.report.write import write_report

        written += write_report(run, sections)
    tell(f"结果：{run.folder}（{'、'.join(written)}）")
    tell(f"下一步：{_next_step(config)}")
    return 0


def compute(run: Run, kinds: Sequence[type[AnySection]]) -> tuple[list[AnySection], list[str]]:
    """Compute the sections one after the other; their JSONs are written as soon as each is done.

    Args:
        run: The evaluation.
        kinds: The sections' classes, in order.

    Returns:
        The sections, and the names of the files.
    """
    sections: list[AnySection] = []
    written: list[str] = []
    stages = sum(not kind.always for kind in kinds) + 1  # the last one is the report
    number = 0
    for kind in kinds:
        section = kind(run, sections)
        if not kind.always:
            number += 1
            say(f"[{number}/{stages}] {section.title()}")
        section.result = section.compute()
        sections.append(section)
        for name, values in section.files().items():
            write(run.folder / name, values)
            written.append(name)
        section.show()
    if run.config.report:
        say(f"[{stages}/{stages}] 图、表与报告")
    return sections, written


def evaluate(config: EvalConfig, command: str, kinds: Sequence[type[AnySection]]) -> Run:
    """Load and score. Cheap checks come first: flags, adapter folders, data, and only then the model.

    Args:
        config: What the user asked for.
        command: What to type to do the same again.
        kinds: The sections that will follow.

    Raises:
        ZhsentiError: A user's mistake; nothing has been written then.
    """
    names = parse_baselines(config.baselines)
    check_writable(user_path(config.output_dir), "--output_dir")
    artifact = open_artifact(config.model_path)
    manifest = artifact.manifest
    others = {path: open_artifact(path) for path in split_names(config.other_adapters)}
    for path, other in others.items():
        _check_same_task(manifest, path, other.manifest)
        check_base(other.manifest, config)
    for kind in kinds:
        kind.check(config)
    data = load_eval_data(config, manifest, [other.manifest for other in others.values()])
    for note in data.notes:
        say(note, indent=1)
    predictor = load_predictor(config, artifact)
    machine, versions = machine_identity(), library_versions("scikit-learn")

    def decides(of: Manifest) -> Identity:
        return {**_base_identity(of), "precision": config.precision, "machine": machine, "versions": versions}

    context = Context(manifest.task, data.train, data.dev, data.splits.test, predictor, decides(manifest))
    systems = build_baselines(names, context)
    for number, other in enumerate(others.values(), start=2):
        systems.append(_system(partial(load_predictor, config, other), other.manifest, decides, number))
    systems.append(_system(lambda: predictor, manifest, decides))
    systems = [replace(item, prepare=cache(item.prepare)) if item.prepare else item for item in systems]
    rows = EvalRows(manifest.task.labels, data.splits.test, data.leak_free, manifest.task.has_aspect)
    compared = compare(systems, rows, user_path(config.output_dir) / "cache", seed=config.seed)
    provenance = Provenance(
        command=command,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        quick=config.quick,
        model=_model_provenance(config, manifest, others),
        data=_data_provenance(config, data, manifest),
        versions=versions,
        machine=machine,
    )
    return Run(config, artifact, predictor.precision.name, data, rows, systems, compared, provenance)


# ── adapters ──────────────────────────────────────────────────────────────────────────────────────────────────────


def load_predictor(config: EvalConfig, artifact: Artifact) -> Predictor:
    """The adapter without its stored temperature: an evaluation fits it and must see what it is fitted to."""
    from zhsenti.prediction.predictor import SentimentPredictor  # imports torch, which takes seconds

    return SentimentPredictor.from_folder(
        artifact, model_name=config.model_name, precision=config.precision, temperature=1.0
    )


def check_base(manifest: Manifest, config: EvalConfig) -> None:
    """Look for the base of an adapter that is loaded later, when its turn comes.

    Raises:
        ArtifactError: It is not there.
    """
    from zhsenti.prediction.bases import find_base

    find_base(manifest, config.model_name)


def _check_same_task(manifest: Manifest, path: str, other: Manifest) -> None:
    if (other.task.labels, other.task.has_aspect) != (manifest.task.labels, manifest.task.has_aspect):
        raise ConfigError(
            f"--other_adapters 里的 {path} 是另一种任务",
            expected="、".join(manifest.task.labels),
            found="、".join(other.task.labels),
            todo="只比较标签相同的适配器。",
        )


def _identity(manifest: Manifest) -> dict[str, str]:
    return {"adapter_sha256": manifest.files[WEIGHTS], "method": manifest.method}


def _base_identity(manifest: Manifest) -> dict[str, object]:
    base = {key: manifest.base.get(key) for key in ("model_id", "revision", "precision", "use_qlora")}
    return {"base": base, "task": manifest.task.to_dict()}


def _system(
    load: Callable[[], Predictor], manifest: Manifest, decides: Callable[[Manifest], Identity], number: int = 1
) -> System:
    return adapter_system(load, manifest.method, {**_identity(manifest), **decides(manifest)}, number)


# ── provenance ────────────────────────────────────────────────────────────────────────────────────────────────────


def _typed(argv: Sequence[str] | None) -> str:
    """What to type to do the same again: what was typed, or what it stands for where a program has called us."""
    typed = sys.argv[1:]
    words = typed if argv is None else list(argv)
    return command_line(program() if words == typed else "zhsenti evaluate", words)


def _model_provenance(config: EvalConfig, manifest: Manifest, others: Mapping[str, Artifact]) -> dict[str, object]:
    return {
        **_identity(manifest),
        "path": config.model_path,
        "base": manifest.base,
        "training_data": manifest.data,
        "other_adapters": {path: _identity(other.manifest) for path, other in others.items()},
    }


def _data_provenance(config: EvalConfig, data: EvalData, manifest: Manifest) -> dict[str, object]:
    counts = Counter(row.label for row in data.splits.test)
    return {
        "dataset": config.dataset,
        "name": data.splits.name,
        "source": data.splits.source,
        "sha256": data.splits.sha256,
        "n_test": len(data.splits.test),
        "n_train_for_baselines": len(data.train),
        "n_dev": len(data.splits.dev),
        "test_labels": {label: counts[k] for k, label in enumerate(manifest.task.labels)},
        "max_test_samples": config.max_test_samples,
        "seed": config.seed,
    }


def _next_step(config: EvalConfig) -> str:
    """The line to type next."""
    model = typed(config, "model_path", "model_name", "precision")
    if not config.report:
        rows = typed(config, *(field.name for field in fields(DataConfig)))
        return f"与基线比较，写成报告：zhsenti evaluate{model}{rows}"
    report = user_path(config.output_dir) / "report.html"
    return f"用浏览器打开 {report}；预测一个文件：zhsenti predict{model} --input 评论.csv"
