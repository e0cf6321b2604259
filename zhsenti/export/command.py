"""``zhsenti export``: write, read back, compare, and only then put in place."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.artifact import Manifest, check_writable, library_versions, load_manifest
from zhsenti.config import DataConfig, EvalConfig, ExportConfig, parse, user_path
from zhsenti.errors import ConfigError, DataError
from zhsenti.files import recover, swap_in, write_json

if TYPE_CHECKING:
    import numpy as np

    from zhsenti.export.parity import Parity
    from zhsenti.prediction.predictor import SentimentPredictor

RECORD, FORMAT = "zhsenti_export.json", 1
EXTRA = {
    "gguf": ["gguf"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "openvino": ["onnx", "onnxscript", "openvino"],
}
DTYPES = {
    "merged": ("bf16", "fp16", "fp32"),
    "gguf": ("fp16", "bf16", "fp32", "q8_0"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "fp16"),
}
NEXT = {
    "merged": "transformers、vLLM 可以直接读这个文件夹",
    "gguf": "llama.cpp 读 model.gguf；Ollama：在这个文件夹里 ollama create 名字 -f Modelfile",
    "onnx": "onnxruntime 读 model.onnx：input_ids、attention_mask 进，log_probs 出",
    "openvino": "OpenVINO 读 openvino_model.xml：input_ids、attention_mask 进，log_probs 出",
}


def main(argv: list[str] | None = None) -> int:
    """Raises ZhsentiError for a user's mistake and for an export that is not what the adapter is; nothing is left."""
    config, _ = parse(ExportConfig, argv, "导出适配器，并在真实评论上核对导出的模型")
    manifest = load_manifest(config.model_path)
    dtype = check(config, manifest)
    folder = target(config)
    texts, aspects, source = real_rows(config, manifest)
    parity = export(config, manifest, folder, dtype, (texts, aspects, source))
    print(f"核对：{parity.line()}")
    print(f"导出：{folder}\n下一步：{NEXT[config.format]}。怎样问它见 docs/export.md。")
    return 0


def check(config: ExportConfig, manifest: Manifest) -> str:
    """The type of the weights. Raises ConfigError for what cannot be exported."""
    if manifest.base.get("use_qlora"):
        raise ConfigError(
            "4 比特基座上训练的适配器不能无损合并，也就不能导出", todo="在 bf16 或 fp32 的基座上重新训练。"
        )
    if config.format == "gguf" and manifest.method != "label_scoring":
        raise ConfigError(
            "分类头不能导出成 GGUF：llama.cpp 的 Qwen2 没有放它的地方", todo="改用 --format onnx、openvino 或 merged。"
        )
    missing = [name for name in EXTRA.get(config.format, []) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"导出成 {config.format} 还缺：{'、'.join(missing)}", todo='pip install -e ".[export]"')
    trained = manifest.base.get("precision", "fp32")
    allowed = DTYPES[config.format]
    dtype = (
        (trained if trained in allowed and config.format == "merged" else allowed[0])
        if config.dtype == "auto"
        else config.dtype
    )
    if dtype not in allowed:
        raise ConfigError(f"--format {config.format} 没有 --dtype {dtype}", expected="、".join(allowed))
    return dtype


def target(config: ExportConfig) -> Path:
    """Where it goes. Raises ConfigError for a place that holds something else."""
    source = user_path(config.model_path).resolve()
    folder = user_path(config.output) if config.output else source.with_name(f"export_{config.format}")
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD).is_file())):
        raise ConfigError(f"{folder} 已有别的东西", expected="不存在，或是以前的导出", todo="换一个 --output。")
    if folder == source or source in folder.parents:
        raise ConfigError("不能导出到适配器文件夹里", found=str(folder), todo="换一个 --output。")
    check_writable(folder.parent)
    return folder


def real_rows(config: ExportConfig, manifest: Manifest) -> tuple[list[str], list[str] | None, str]:
    """Texts, aspects (for a task that has them) and where they are from. Raises DataError, ConfigError."""
    from zhsenti.data.read import ASPECT_NAMES, TEXT_NAMES, open_rows

    path, has_aspect = user_path(config.dataset), manifest.task.has_aspect
    pairs: list[tuple[str, str]] = []
    if path.is_file():
        source = open_rows(path)
        text = source.column(config.text_column, TEXT_NAMES, "文本", "--text_column")
        about = source.column(config.aspect_column, ASPECT_NAMES, "方面", "--aspect_column") if has_aspect else None
        for row in source.rows:
            found, fault = ("", row.error) if row.error else source.text(row, text)
            aspect, missing = ("", "") if about is None or fault else source.cell(row, about, "方面")
            if not fault and not missing:
                pairs.append((found, aspect))
        name = str(path)
    else:
        rows, name = _dataset_rows(config, manifest)
        pairs = [(row.text, row.aspect or "") for row in rows]
    if len(pairs) < 50:
        raise DataError(f"{name} 里能用来核对的评论太少", expected="至少 50 条", found=f"{len(pairs)} 条")
    import numpy as np

    order = np.random.default_rng(config.seed).permutation(len(pairs))[: config.samples]
    chosen = [pairs[i] for i in sorted(order)]
    return [text for text, _ in chosen], [about for _, about in chosen] if has_aspect else None, name


def _dataset_rows(config: ExportConfig, manifest: Manifest) -> tuple[Sequence[Any], str]:
    """Test rows, else dev rows: the adapter was not trained on them."""
    from zhsenti.data.sources import load_dataset
    from zhsenti.evaluation.rows import load_eval_data

    if config.dataset == "auto":
        try:
            splits = load_eval_data(EvalConfig(model_path=config.model_path, dataset="auto"), manifest).splits
        except DataError as error:
            raise ConfigError(
                "找不到用来核对的评论", found=error.problem, todo="用 --dataset 给出一个有评论的文件。"
            ) from error
    else:
        named = DataConfig(dataset=config.dataset, text_column=config.text_column, aspect_column=config.aspect_column)
        splits = load_dataset(named, manifest.task)
    return splits.test or splits.dev, splits.name


def export(
    config: ExportConfig, manifest: Manifest, folder: Path, dtype: str, rows: tuple[list[str], list[str] | None, str]
) -> Parity:
    """Write beside ``folder``, read back, compare, swap in. Raises ArtifactError and leaves what was there before."""
    from zhsenti.export import parity as compared
    from zhsenti.export.merged import merge, save_tokenizer
    from zhsenti.prediction.predictor import SentimentPredictor, find_base

    texts, aspects, source = rows
    base = find_base(manifest, config.model_name)
    _check_space(folder, base.path)
    kind = importlib.import_module(f"zhsenti.export.{config.format}")
    recover(folder)
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    staging.mkdir(parents=True)
    try:
        predictor = SentimentPredictor(config.model_path, model_name=config.model_name, temperature=1.0)
        method = predictor.method
        _check_words(config.format, method)
        expected = _by_adapter(predictor, texts, aspects)
        given: Sequence[str | None] = aspects or [None] * len(texts)
        items = [method.encode(text, aspect=about) for text, about in zip(texts, given, strict=True)]
        del predictor
        _say("合并 LoRA（float32）")
        network = merge(method, base.path, Path(config.model_path))
        save_tokenizer(base.path, staging)
        _say(f"写 {config.format}，{dtype}")
        kind.write(method, network, staging, dtype)
        del network
        _say("从磁盘读回来，逐条核对")
        reloaded = kind.load(method, staging)
        found = compared.score_export(reloaded, items, _teller("导出", len(items)))
        parity = compared.compare(expected, found, reloaded.runtime)
        compared.check(parity, dtype)
        record = _record(config, manifest, dtype, parity, source)
        write_json(staging / RECORD, record)
        swap_in(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return parity


def _check_words(form: str, method: Any) -> None:
    if form in ("onnx", "openvino") and not getattr(method, "single_token", True):
        raise ConfigError(
            f"标签词不止一个 token，还不能导出成 {form}", todo="改用 --format merged 或 gguf，或换一个 token 的标签词。"
        )


def _by_adapter(predictor: SentimentPredictor, texts: list[str], aspects: list[str] | None) -> np.ndarray:
    _say(f"适配器打分：{len(texts):,} 条")
    tell, done = _teller("适配器", len(texts)), 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        tell(done)

    return predictor.log_probs(texts, aspects, progress=progress)


def _check_space(folder: Path, base: Path) -> None:
    """A float32 copy of the base, and half of it again while it is converted, is what the largest export takes."""
    needed = 3 * sum(path.stat().st_size for path in base.glob("*.safetensors"))
    free = shutil.disk_usage(folder.parent if folder.parent.exists() else Path.cwd()).free
    if free < needed:
        raise ConfigError(
            "磁盘空间不够",
            expected=f"约 {needed / 1e9:.1f} GB",
            found=f"{free / 1e9:.1f} GB",
            todo="腾出空间，或换一个 --output。",
        )


def _record(config: ExportConfig, manifest: Manifest, dtype: str, parity: Parity, source: str) -> dict[str, Any]:
    """What a program needs to ask the export as the adapter is asked, and what the comparison found."""
    return {
        "format": FORMAT,
        "export": config.format,
        "dtype": dtype,
        "method": manifest.method,
        "task": manifest.task.to_dict(),
        "temperature": manifest.temperature,
        "base": manifest.base,
        "adapter": manifest.files,
        "parity": {**parity.model_dump(), "dataset": source, "seed": config.seed},
        "settings": asdict(config),
        "versions": library_versions(),
    }


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _teller(what: str, total: int) -> Callable[[int], None]:
    """A line that is rewritten on a terminal; a line a quarter elsewhere."""
    quarter = 0

    def tell(done: int) -> None:
        nonlocal quarter
        if sys.stderr.isatty():
            print(f"\r  {what} {done:,}/{total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif 4 * done // total > quarter:
            quarter = 4 * done // total
            _say(f"{what} {done:,}/{total:,}")

    return tell
