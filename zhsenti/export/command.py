"""``zhsenti export``: the adapter as a model that other programs run, done only when it says what the adapter says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.console import Progress, say, tell
from zhsenti.core.flags import parse
from zhsenti.core.paths import user_path
from zhsenti.data.text import readable
from zhsenti.export.base import Format
from zhsenti.export.config import EXAMPLES, ExportConfig
from zhsenti.export.formats import FORMATS
from zhsenti.export.place import MARK, check_kept, check_output, check_room

if TYPE_CHECKING:
    import numpy as np

    from zhsenti.artifact import Manifest
    from zhsenti.export.rows import Rows
    from zhsenti.methods.base import Method
    from zhsenti.methods.prompt import Encoded
    from zhsenti.models.adapter_check import SavedAdapter


def main(argv: list[str] | None = None) -> int:
    """The command."""
    config, _ = parse(ExportConfig, argv, "把适配器导出成别的程序能用的模型，并用真实评论核对", examples=EXAMPLES)
    export(config)
    return 0


def export(config: ExportConfig) -> Path:
    """Write, reload, compare, then swap the folder in.

    Returns:
        The folder.

    Raises:
        ConfigError: The adapter cannot be exported so, or not to this place.
        ArtifactError: The adapter is not whole, or the export disagrees with it; then nothing is in place but what was
            there before.
    """
    form = FORMATS.load(config.format)
    adapter_folder = _named(user_path(config.model_path))
    output = _named(user_path(config.output)) if config.output else adapter_folder.parent / f"export_{form.name}"
    form.check_libraries()
    check_output(output, adapter_folder)
    from zhsenti.artifact import open_artifact
    from zhsenti.methods import get_method

    artifact = open_artifact(config.model_path)
    manifest = artifact.manifest
    dtype = form.pick_dtype(config.dtype, manifest.base.get("precision", "auto"))
    form.refuse(manifest, get_method(manifest.method))
    from zhsenti.export.rows import parity_rows

    rows = parity_rows(config, manifest)
    for note in rows.notes:
        say(note)
    say(f"用 {rows.source} 的 {len(rows.texts)} 条评论核对")
    from zhsenti.artifact import seal
    from zhsenti.core.files import building, hold, recover
    from zhsenti.prediction.predictor import SentimentPredictor

    predictor = SentimentPredictor.from_folder(artifact, model_name=config.model_name, temperature=1.0)
    form.refuse_loaded(predictor.method, predictor.network)
    check_kept(output, predictor.base.path, "基座")
    check_room(output, form.room(dtype), predictor.base.path)
    lock = output.with_name(f".{output.name}.lock")
    with hold(lock, "导出", output, "--output"):
        try:
            with Progress() as progress:
                bar = progress.add("适配器打分", len(rows.texts))
                reference = predictor.log_probs(rows.texts, rows.aspects, progress=bar.advance)
            method, base, precision = predictor.method, predictor.base, predictor.precision.name
            del predictor  # its weights go before the next ones come
            recover(output)
            with building(output) as staging:
                job = _Job(form, dtype, method, staging)
                job.write(base.path, artifact.adapter)
                parity = {**job.compare(rows, reference), "adapter_precision": precision}
                seal(staging, MARK, job.describe(config, manifest, rows, parity))
        finally:
            lock.unlink(missing_ok=True)
    _print_summary(form, output, parity)
    return output


def _named(path: Path) -> Path:
    """``path``, in full where it has no name ("." and "..") that one beside it could be made of."""
    return path if path.name not in ("", "..") else path.resolve()


@dataclass(frozen=True)
class _Job:
    """One export that is being made in the folder ``staging``."""

    form: Format
    dtype: str
    method: Method
    staging: Path

    def write(self, base: Path, adapter: SavedAdapter) -> None:
        """Merge the adapter into its base and write the result down."""
        from zhsenti.export.network import merge, save_tokenizer

        say("并入基座（float32）……")
        network = merge(self.method, base, adapter)
        say(f"写成 {self.form.name}（{self.dtype}）……")
        save_tokenizer(base, self.staging)
        self.form.write(self.method, network, self.staging, self.dtype)

    def compare(self, rows: Rows, reference: np.ndarray) -> dict[str, Any]:
        """Read the export back and compare it with the adapter.

        Args:
            rows: The reviews.
            reference: The adapter's log-probabilities of them (N, C).

        Returns:
            The parity block of the description.

        Raises:
            ArtifactError: They disagree.
            ModelError: There is too little memory to look.
        """
        from zhsenti.export import parity
        from zhsenti.models.failures import naming_load_failures

        with naming_load_failures("关掉别的占内存、显存的程序，或在内存大的机器上导出。"):
            reloaded = self.form.load(self.method, self.staging)
        items = [
            self.method.encode(text, aspect=aspect)
            for text, aspect in zip(rows.texts, rows.aspects or [None] * len(rows.texts), strict=True)
        ]
        with Progress() as progress:
            bar = progress.add("导出的模型打分", len(items))
            scores = parity.score_rows(reloaded, [item.ids for item in items], reference.shape[1], bar.advance)
        result = parity.compare(reference, scores, rows.names)
        parity.refuse_difference(result)
        compared = {"runtime": reloaded.runtime, **asdict(result)}
        if self.form.takes_text and (whole := _whole_prompts(self.method, rows, items)):
            changed, kept = [i for i in whole if whole[i] != items[i].ids], list(whole)
            plain = scores.copy()
            if changed:
                with Progress() as progress:
                    bar = progress.add("整段文字作提示", len(changed))
                    prompts = [whole[i] for i in changed]
                    plain[changed] = parity.score_rows(reloaded, prompts, reference.shape[1], bar.advance)
            as_text = parity.compare(reference[kept], plain[kept], [rows.names[i] for i in kept])
            compared["whole_text_prompts"] = {"other_tokens": len(changed), **asdict(as_text)}
        return compared

    def describe(self, config: ExportConfig, manifest: Manifest, rows: Rows, parity: dict[str, Any]) -> dict[str, Any]:
        """What ``zhsenti_export.json`` says: all that is needed to ask the export and to know where it came from."""
        from zhsenti.artifact import WEIGHTS
        from zhsenti.core.provenance import library_versions

        return {
            "format": self.form.name,
            "dtype": self.dtype,
            "method": manifest.method,
            "task": {**manifest.task.to_dict(), "word_ids": self.method.word_ids},
            "temperature": manifest.temperature,
            "base": manifest.base,
            "adapter_sha256": manifest.files[WEIGHTS],
            "parity": {**parity, "dataset": Path(rows.source).name, "seed": config.seed},  # no path of this machine
            "versions": library_versions(*self.form.libraries),
        }


def _whole_prompts(method: Method, rows: Rows, items: list[Encoded]) -> dict[int, list[int]]:
    """Prompts tokenised as one text, which is what a program that is sent text reads.

    A token may then span the border of template and review. Rows that zhsenti cuts are left out: there the caller has
    to cut.

    Returns:
        From a row's index to its ids.
    """
    whole = {}
    for index, (text, item) in enumerate(zip(rows.texts, items, strict=True)):
        if not item.truncated:
            aspect = (rows.aspects[index] or "") if rows.aspects else ""
            before, after = (part.replace("{aspect}", aspect) for part in method.task.template.split("{text}"))
            whole[index] = method.tokenizer.encode(readable(f"{before}{text}{after}"))  # as PromptEncoder does
    return whole


def _print_summary(form: Format, output: Path, parity: dict[str, Any]) -> None:
    from zhsenti.export.parity import Parity, describe

    known = Parity.__dataclass_fields__
    tell(f"已导出到 {output}")
    tell(f"  核对（{parity['runtime']}，从磁盘重新读入）：{describe(Parity(**{k: parity[k] for k in known}))}")
    if whole := parity.get("whole_text_prompts"):
        tell(
            f"  若把提示作为一整段文字发去：{whole['n']} 条（不含要截断的）中 "
            f"{whole['other_tokens']} 条的切词与 zhsenti 不同，标签相同的 {whole['agreement']:.2%}"
        )
    tell("  逐步说明：源码里的 docs/export.md")
    tell(f"下一步：{form.usage.format(folder=output)}")
