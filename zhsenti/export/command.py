"""``zhsenti export``: the adapter as a model that other programs run, done only when it says what the adapter says."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.flags import parse
from zhsenti.core.paths import user_path
from zhsenti.export.config import ExportConfig
from zhsenti.export.formats import FORMATS, MARK, check_kept, check_method, check_output, check_room, pick_dtype

if TYPE_CHECKING:
    import numpy as np

    from zhsenti.artifact import Manifest
    from zhsenti.export.rows import Rows
    from zhsenti.methods.base import Method
    from zhsenti.methods.prompt import Encoded
    from zhsenti.models.adapter_check import SavedAdapter


def main(argv: list[str] | None = None) -> int:
    config, _ = parse(ExportConfig, argv, "把适配器导出成别的程序能用的模型，并用真实评论核对")
    export(config)
    return 0


def export(config: ExportConfig) -> Path:
    """Write, reload, compare, then swap the folder in. Returns it.

    Raises ConfigError for what cannot be exported so, and ArtifactError when the export disagrees with the adapter;
    then nothing is in place but what was there before.
    """
    form = FORMATS[config.format]
    adapter = _named(user_path(config.model_path))
    output = _named(user_path(config.output)) if config.output else adapter.parent / f"export_{config.format}"
    form.check_libraries()
    check_output(output, adapter)
    from zhsenti.artifact import open_artifact

    artifact = open_artifact(config.model_path)
    manifest = artifact.manifest
    dtype = pick_dtype(config.format, config.dtype, manifest)
    check_method(config.format, manifest)
    from zhsenti.export.rows import parity_rows

    rows = parity_rows(config, manifest)
    for note in rows.notes:
        _say(note)
    _say(f"用 {rows.source} 的 {len(rows.texts)} 条评论核对")
    from zhsenti.core.files import hold, recover, swap_in
    from zhsenti.prediction.predictor import SentimentPredictor

    predictor = SentimentPredictor.from_folder(artifact, model_name=config.model_name, temperature=1.0)
    check_method(config.format, manifest, predictor.method)
    check_kept(output, predictor.base.path, "基座")
    check_room(output, config.format, dtype, predictor.base.path)
    lock, staging = (output.with_name(f".{output.name}.{end}") for end in ("lock", uuid.uuid4().hex[:8]))
    with hold(lock, "导出", output, "--output"):
        try:
            with _bar("适配器打分", len(rows.texts)) as advance:
                reference = predictor.log_probs(rows.texts, rows.aspects, progress=advance)
            method, base, precision = predictor.method, predictor.base, predictor.precision.name
            del predictor  # its weights go before the next ones come
            recover(output)
            staging.mkdir()
            _write(config.format, dtype, method, base.path, artifact.adapter, staging)
            compared = _compare(config.format, method, staging, rows, reference)
            values = _description(config, manifest, method, dtype, rows, compared | {"adapter_precision": precision})
            from zhsenti.artifact import seal

            seal(staging, MARK, values)
            swap_in(staging, output)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            lock.unlink(missing_ok=True)
    _summary(config.format, output, compared)
    return output


def _named(path: Path) -> Path:
    """``path``, in full where it has no name ("." and "..") that one beside it could be made of."""
    return path if path.name not in ("", "..") else path.resolve()


def _write(form: str, dtype: str, method: Method, base: Path, adapter: SavedAdapter, staging: Path) -> None:
    from zhsenti.export.merged import merge, save_tokenizer

    _say("并入基座（float32）……")
    network = merge(method, base, adapter)
    _say(f"写成 {form}（{dtype}）……")
    save_tokenizer(base, staging)
    FORMATS[form].module().write(method, network, staging, dtype)


def _compare(form: str, method: Method, staging: Path, rows: Rows, reference: np.ndarray) -> dict[str, Any]:
    """The parity block. Raises ArtifactError."""
    from zhsenti.export import parity

    reloaded = FORMATS[form].module().load(method, staging)
    items = [
        method.encode(text, aspect=aspect)
        for text, aspect in zip(rows.texts, rows.aspects or [None] * len(rows.texts), strict=True)
    ]
    with _bar("导出的模型打分", len(items)) as advance:
        found = parity.score_rows(reloaded, [item.ids for item in items], reference.shape[1], advance)
    result = parity.compare(reference, found, rows.names)
    parity.refuse_difference(result)
    compared = {"runtime": reloaded.runtime, **asdict(result)}
    if FORMATS[form].takes_text and (whole := _whole_prompts(method, rows, items)):
        changed, kept = [i for i in whole if whole[i] != items[i].ids], list(whole)
        plain = found.copy()
        if changed:
            with _bar("整段文字作提示", len(changed)) as advance:
                prompts = [whole[i] for i in changed]
                plain[changed] = parity.score_rows(reloaded, prompts, reference.shape[1], advance)
        as_text = parity.compare(reference[kept], plain[kept], [rows.names[i] for i in kept])
        compared["whole_text_prompts"] = {"other_tokens": len(changed), **asdict(as_text)}
    return compared


def _whole_prompts(method: Method, rows: Rows, items: list[Encoded]) -> dict[int, list[int]]:
    """Row -> ids of its prompt tokenised as one text, which is what a program that is sent text reads: a token may then
    span the border of template and review. Rows that zhsenti cuts are left out: there the caller has to cut.
    """
    whole = {}
    for index, (text, item) in enumerate(zip(rows.texts, items, strict=True)):
        if not item.truncated:
            about = (rows.aspects[index] or "") if rows.aspects else ""
            before, after = (part.replace("{aspect}", about) for part in method.task.template.split("{text}"))
            prompt = f"{before}{text}{after}".encode("utf-8", "replace").decode("utf-8")  # as PromptEncoder does
            whole[index] = method.tokenizer.encode(prompt)
    return whole


def _description(
    config: ExportConfig, manifest: Manifest, method: Method, dtype: str, rows: Rows, compared: dict[str, Any]
) -> dict[str, Any]:
    """What ``zhsenti_export.json`` says: all that is needed to ask the export and to know where it came from."""
    from importlib import metadata

    from zhsenti.artifact import WEIGHTS
    from zhsenti.core.provenance import library_versions

    versions = {name: metadata.version(name) for name in FORMATS[config.format].libraries}
    return {
        "format": config.format,
        "dtype": dtype,
        "method": manifest.method,
        "task": {**manifest.task.to_dict(), "word_ids": method.word_ids},
        "temperature": manifest.temperature,
        "base": manifest.base,
        "adapter_sha256": manifest.files[WEIGHTS],
        "parity": {**compared, "dataset": Path(rows.source).name, "seed": config.seed},  # no path of this machine
        "versions": {**library_versions(), **versions},
    }


def _summary(form: str, output: Path, compared: dict[str, Any]) -> None:
    from zhsenti.export.parity import Parity, describe

    known = Parity.__dataclass_fields__
    print(f"已导出到 {output}")
    print(f"  核对（{compared['runtime']}，从磁盘重新读入）：{describe(Parity(**{k: compared[k] for k in known}))}")
    if whole := compared.get("whole_text_prompts"):
        print(
            f"  若把提示作为一整段文字发去：{whole['n']} 条（不含要截断的）中 "
            f"{whole['other_tokens']} 条的切词与 zhsenti 不同，标签相同的 {whole['agreement']:.2%}"
        )
    print(f"  用法：{FORMATS[form].usage.format(folder=output)}")
    print("  逐步说明：docs/export.md")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _bar(title: str, rows: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; what it yields is called with the number of rows just done."""
    from zhsenti.core.console import Progress

    with Progress() as progress:
        yield progress.add(title, rows).advance
