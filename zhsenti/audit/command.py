"""``zhsenti audit FILE…``: what is wrong with the data, before any compute is spent on it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.artifact import Artifact, Manifest, open_artifact
from zhsenti.audit.checks import CHECKS
from zhsenti.audit.checks.base import Adapter, AuditOptions
from zhsenti.audit.config import FINDINGS, PAGE, RESULT, AuditConfig
from zhsenti.audit.files import read_splits
from zhsenti.audit.findings import Audit, write_findings
from zhsenti.audit.run import audit
from zhsenti.audit.tokenizer import find_tokenizer
from zhsenti.audit.view import audit_view, show
from zhsenti.core.console import Progress, tell
from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable, write_json, write_text
from zhsenti.core.flags import parse, typed
from zhsenti.core.paths import user_path
from zhsenti.core.templates import environment
from zhsenti.data.registry import DATASETS
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from zhsenti.prediction.predictor import SentimentPredictor

ABOUT = "训练之前检查数据：编码、空文本、长度、标签、重复与泄漏、一看便知标签的特征、可能有误的标签"
EXAMPLES = (
    "zhsenti audit train.csv test.csv",
    "zhsenti audit reviews.xlsx --text_column 评价内容 --label_column 好评",
    "zhsenti audit data/ --model_path experiments/label_scoring/lora_adapter",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after ``zhsenti audit``; None for those of the process.

    Returns:
        0; what was found is no failure.

    Raises:
        ZhsentiError: A user's mistake; nothing has been written.
    """
    config, _ = parse(AuditConfig, argv, ABOUT, positional="files", examples=EXAMPLES)
    folder = user_path(config.output_dir)
    check_writable(folder, "--output_dir")
    artifact = open_artifact(config.model_path) if config.model_path else None
    manifest = artifact.manifest if artifact else None
    task = _task(config, manifest)
    splits, notes = read_splits(config, task)
    count_tokens, on_tokens = find_tokenizer(config.model_name, manifest)
    predictor = load_predictor(config, artifact) if artifact else None
    with Progress(transient=True) as progress:
        options = AuditOptions(
            count_tokens=count_tokens,
            seed=config.seed,
            adapter=_adapter(predictor, progress) if predictor else None,
            adapter_rows=config.adapter_rows,
            stage=_stages(progress),
        )
        result = audit(splits, task, options)
    result = result.model_copy(update={"notes": [*notes, on_tokens, *result.notes]})
    _write(result, folder)
    if config.json:
        print(json.dumps(_summary(result, folder), ensure_ascii=False))
    else:
        show(result)
        tell(f"每一处发现：{folder / FINDINGS}\n报告：{folder / PAGE}\n全部数据：{folder / RESULT}")
        tell(f"下一步：{next_step(config, result)}")
    return 0


def load_predictor(config: AuditConfig, artifact: Artifact) -> SentimentPredictor:
    """The adapter with its base."""
    from zhsenti.prediction.predictor import SentimentPredictor  # imports torch, which takes seconds

    return SentimentPredictor.from_folder(artifact, model_name=config.model_name)


def _task(config: AuditConfig, manifest: Manifest | None) -> SentimentTask:
    if manifest is None:
        return SentimentTask.resolve(config.task, config.max_length)
    if config.task or config.max_length:
        raise ConfigError(
            "--task、--max_length 和 --model_path 不能同时给", todo="适配器文件夹里已有它的任务，去掉前两个。"
        )
    return manifest.task


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _stages(progress: Progress) -> Callable[[str], None]:
    """One bar over the checks."""
    bar, begun = progress.add("", len(CHECKS), unit="项"), count()

    def begin(title: str) -> None:
        bar.title = title
        bar.set(next(begun))

    return begin


def _adapter(predictor: SentimentPredictor, progress: Progress) -> Adapter:
    """One bar over the rows that the adapter reads."""

    def read(texts: list[str], aspects: list[str] | None) -> np.ndarray:
        bar = progress.add("适配器复核", len(texts))
        return predictor.log_probs(texts, aspects, progress=bar.advance)

    return read


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _summary(result: Audit, folder: Path) -> dict[str, object]:
    """For scripts: everything but the findings, how many of each kind there are, and where they lie."""
    return {
        **result.model_dump(mode="json", exclude={"findings"}),
        "findings": result.counts(),
        "findings_csv": str(folder / FINDINGS),
        "audit_json": str(folder / RESULT),
        "audit_html": str(folder / PAGE),
    }


def _write(result: Audit, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_findings(folder / FINDINGS, result.findings)
    write_json(folder / RESULT, result.model_dump(mode="json"))
    page = environment("zhsenti.audit").get_template("audit.html.j2").render(audit=audit_view(result))
    write_text(folder / PAGE, page)


def next_step(config: AuditConfig, result: Audit) -> str:
    """What to do after this audit (Chinese), with the command to type at its end.

    Data without labels can only be scored. Data that was audited with an adapter is what that is measured on.
    """
    if not any(split.labelled for split in result.splits):
        model = typed(config, "model_path", "model_name") if config.model_path else ""
        columns = typed(config, "text_column", "aspect_column")
        return f"zhsenti predict{model} --input {shlex.quote(config.files[0])}{columns}"
    data, before = _as_one(config.files, result), []
    if not data:
        before.append("把文件放进一个文件夹，训练用的取名 train")
    if result.unknown_labels or result.empty:
        before.append("改好用不了的行（或加 --on_error skip 跳过它们）")
    columns = typed(config, "text_column", "label_column", "aspect_column")
    dataset = f" --dataset {shlex.quote(data) if data else '文件夹'}{columns}"
    if config.model_path:
        line = f"zhsenti evaluate{typed(config, 'model_path', 'model_name')}{dataset}"
    else:
        line = f"zhsenti train{dataset}{typed(config, 'task', 'max_length')}"
    return f"{'，'.join(before)}，再 {line}" if before else line


def _as_one(files: Sequence[str], result: Audit) -> str:
    """What ``--dataset`` takes for these files: the only one, or the folder they are all in; "" for neither."""
    if len(files) == 1 and (len(result.splits) == 1 or files[0] in DATASETS):
        return files[0]
    folders = {files[0]} if len(files) == 1 else {str(user_path(file).parent) for file in files}
    return folders.pop() if len(folders) == 1 and any(split.name == "train" for split in result.splits) else ""
