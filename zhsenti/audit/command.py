"""``zhsenti audit FILE…``: what is wrong with the data, before any compute is spent on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zhsenti.artifact import Manifest, open_artifact
from zhsenti.audit.checks import STAGES, Audit, AuditOptions, Finding, audit
from zhsenti.audit.config import AuditConfig
from zhsenti.audit.files import from_dataset, read_splits
from zhsenti.audit.lengths import CountTokens
from zhsenti.audit.view import audit_view, show
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.core.files import check_writable, write_json, write_text
from zhsenti.core.flags import parse
from zhsenti.core.paths import cache_root, user_path
from zhsenti.core.templates import environment
from zhsenti.data.split import DatasetSplits
from zhsenti.data.tables import write_csv
from zhsenti.models.backbone import Tokenizer
from zhsenti.models.embedded import EMBEDDED, is_whole
from zhsenti.task import SentimentTask
from zhsenti.training.config import TrainConfig

__all__ = ["audit_splits", "audit_view", "main"]

FINDINGS, RESULT, PAGE = "findings.csv", "audit.json", "audit.html"
Adapter = Callable[[list[str], list[str] | None], np.ndarray]


def main(argv: list[str] | None = None) -> int:
    """Raises ZhsentiError for a user's mistake, and then nothing has been written."""
    about = "训练之前检查数据：编码、空文本、长度、标签、重复与泄漏、一看便知标签的特征、可能有误的标签"
    config, _ = parse(AuditConfig, argv, about, positional="files")
    folder = Path(config.output_dir)
    check_writable(folder)
    manifest = open_artifact(config.model_path).manifest if config.model_path else None
    task = _task(config, manifest)
    splits, notes = read_splits(config, task)
    count_tokens, said = _tokenizer(config.model_name, manifest)
    predictor = load_predictor(config) if manifest else None
    with _progress() as bars:
        options = AuditOptions(
            count_tokens=count_tokens,
            seed=config.seed,
            adapter=bars.adapter(predictor) if predictor else None,
            adapter_rows=config.adapter_rows,
            stage=bars.stage,
        )
        found = audit(splits, task, options)
    found = found.model_copy(update={"notes": [*notes, said, *found.notes]})
    _write(found, folder)
    if config.json:
        print(json.dumps(_summary(found, folder), ensure_ascii=False))
    else:
        show(found, Console(highlight=False))
        print(f"每一处发现：{folder / FINDINGS}\n报告：{folder / PAGE}\n全部数据：{folder / RESULT}")
    return 0


def audit_splits(
    splits: DatasetSplits, task: SentimentTask, *, seed: int = 42, manifest: Manifest | None = None
) -> Audit:
    """Audit of rows that are already loaded, for an evaluation's report.

    Tokens are counted with the tokenizer of ``manifest``'s base, else of an embedded model at hand, else estimated.
    """
    count_tokens, _ = _tokenizer(None, manifest)
    return audit(from_dataset(splits), task, AuditOptions(count_tokens=count_tokens, seed=seed))


def load_predictor(config: AuditConfig) -> Any:
    from zhsenti.prediction.predictor import SentimentPredictor  # torch and transformers: seconds

    assert config.model_path is not None
    return SentimentPredictor.from_folder(config.model_path, model_name=config.model_name)


def _task(config: AuditConfig, manifest: Manifest | None) -> SentimentTask:
    if manifest is None:
        return TrainConfig(task=config.task, max_length=config.max_length).resolved_task()
    if config.task or config.max_length:
        raise ConfigError(
            "--task、--max_length 和 --model_path 不能同时给", todo="适配器文件夹里已有它的任务，去掉前两个。"
        )
    return manifest.task


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tokenizer(name: str | None, manifest: Manifest | None) -> tuple[CountTokens | None, str]:
    """A counter from what is on this machine, and a Chinese sentence on it. Raises ModelError when ``name`` is not."""
    trained = [str(manifest.base["model_id"])] if manifest else []
    for candidate in [name] if name else [*trained, *EMBEDDED]:
        folder = _local_folder(candidate)
        if folder:
            return _counter(Tokenizer(folder)), f"token 数由 {candidate} 的分词器数出"
    if name:
        raise ModelError(
            f"本地没有 {name} 的分词器",
            expected="含 tokenizer.json 的文件夹，或已下载过的模型（审计从不下载）",
            todo="去掉 --model_name，就按字数估计。",
        )
    return None, "本地没有分词器，token 数按字数估计（每个汉字约 0.62 个）"


def _counter(tokenizer: Tokenizer) -> CountTokens:
    def count(texts: Sequence[str]) -> list[int]:
        clean = (text.encode("utf-8", "replace").decode("utf-8") for text in texts)
        return [len(tokenizer.encode(text, split_special_tokens=True)) for text in clean]

    return count


def _local_folder(name: str) -> Path | None:
    """Where the tokenizer of ``name`` lies on this machine: a folder, an embedded model, the hub's cache."""
    path = user_path(name)
    if name in EMBEDDED:
        path = cache_root() / "models" / name
        return path if is_whole(path) else None
    if path.is_dir():
        return path if any((path / file).is_file() for file in ("tokenizer.json", "vocab.json")) else None
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "tokenizer.json")
        return Path(found).parent if isinstance(found, str) else None
    return None


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Bars:
    """One bar over the stages, and one over the rows that the adapter reads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages = progress.add_task("", total=len(STAGES))

    def stage(self, name: str) -> None:
        self._progress.update(self._stages, description=name, completed=STAGES.index(name))

    def adapter(self, predictor: Any) -> Adapter:
        def read(texts: list[str], aspects: list[str] | None) -> np.ndarray:
            bar = self._progress.add_task("适配器复核", total=len(texts))
            return predictor.log_probs(texts, aspects, progress=lambda n: self._progress.update(bar, advance=n))

        return read


@contextmanager
def _progress() -> Iterator[_Bars]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bars(progress)


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _summary(found: Audit, folder: Path) -> dict[str, Any]:
    """For scripts: everything but the findings, how many of each kind there are, and where they lie."""
    return {
        **found.model_dump(mode="json", exclude={"findings"}),
        "findings": found.counts(),
        "findings_csv": str(folder / FINDINGS),
        "audit_json": str(folder / RESULT),
        "audit_html": str(folder / PAGE),
    }


def _write(found: Audit, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(Finding.model_fields)
    write_csv(folder / FINDINGS, columns, ([getattr(item, name) for name in columns] for item in found.findings))
    write_json(folder / RESULT, found.model_dump(mode="json"))
    page = environment("zhsenti.audit").get_template("audit.html.j2").render(audit=audit_view(found))
    write_text(folder / PAGE, page)
