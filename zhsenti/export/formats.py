"""What can be exported as what: the table of formats, and everything that is refused before any work."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.artifact import Manifest
from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable, free_bytes
from zhsenti.methods import get_method

if TYPE_CHECKING:
    from zhsenti.methods.base import Method

MARK = "zhsenti_export.json"
BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "q8_0": 1.07}  # a weight


@dataclass(frozen=True)
class Format:
    """name  of the module with ``write`` and ``load``;  dtypes  it can hold;  auto  the one taken by default, "" for
    training's;  takes_text  whether programs that run it are sent prompts as text;  libraries  of the extra it needs.
    """

    name: str
    dtypes: tuple[str, ...]
    auto: str
    takes_text: bool
    usage: str
    libraries: tuple[str, ...] = ()

    def module(self) -> Any:
        return importlib.import_module(f"zhsenti.export.{self.name}")

    def check_libraries(self) -> None:
        missing = [name for name in self.libraries if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"导出成 {self.name} 要另装几个库",
                found=f"没有 {'、'.join(missing)}",
                todo='pip install -e ".[export]"',
            )


FORMATS = {
    "merged": Format(
        "merged",
        ("bf16", "fp16", "fp32"),
        "",
        True,
        'transformers 的 from_pretrained("{folder}")，或 vllm serve {folder}',
    ),
    "gguf": Format(
        "gguf",
        ("fp16", "bf16", "fp32", "q8_0"),
        "fp16",
        True,
        "llama-server -m {folder}/model.gguf，或 ollama create 名字 -f {folder}/Modelfile",
    ),
    "onnx": Format(
        "onnx",
        ("fp32",),
        "fp32",
        False,
        'onnxruntime.InferenceSession("{folder}/model.onnx")',
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Format(
        "openvino",
        ("fp16", "fp32"),
        "fp16",
        False,
        'openvino.Core().compile_model("{folder}/openvino_model.xml", "CPU")',
        ("onnx", "onnxscript", "openvino"),
    ),
}


def pick_dtype(form: str, asked: str, manifest: Manifest) -> str:
    """The type of the weights. Raises ConfigError for one that the format, or programs that run it, do not take."""
    if asked == "auto":
        trained = manifest.base.get("precision", "auto")
        return FORMATS[form].auto or (trained if trained in FORMATS[form].dtypes else "bf16")
    if asked not in FORMATS[form].dtypes:
        raise ConfigError(
            f"{form} 不能用 --dtype {asked}",
            expected="、".join(("auto", *FORMATS[form].dtypes)),
            todo="换一个类型；q8_0 只有 gguf 有，要更小的 CPU 模型就用 gguf 的 q8_0 或 openvino 的 fp16。",
        )
    return asked


def check_method(form: str, manifest: Manifest, method: Method | None = None) -> None:
    """Raises ConfigError for adapters that cannot be exported so; ``method`` (once loaded) tells how long words are."""
    if manifest.base.get("use_qlora"):
        raise ConfigError(
            "4 比特基座上训练的适配器不能导出",
            found="它补的是量化后的权重，并入原来的权重，结果就变了",
            todo="不加 --use_qlora 重新训练，再导出。",
        )
    if form == "gguf" and not get_method(manifest.method).has_lm_head:
        raise ConfigError(
            f"{get_method(manifest.method).title}不能导出成 gguf",
            found="llama.cpp 和 Ollama 只让语言模型续写文字，没有放分类头的地方",
            todo="改用 --format merged、onnx 或 openvino；或用标签打分的方法训练。",
        )
    if form in ("onnx", "openvino") and method is not None and len(method.continuations) > 1:
        raise ConfigError(
            f"标签词不止一个 token 的任务不能导出成 {form}",
            found="、".join(method.task.words) + "：这样的图一次只读提示之后的一个 token",
            todo="换成一个 token 的标签词重新训练，或用 --format merged、gguf。",
        )


def check_output(output: Path, adapter: Path) -> None:
    """Raises ConfigError when ``output`` is something that an export must not replace, or cannot be written."""
    check_kept(output, adapter, "适配器")
    if adapter.resolve() in output.resolve().parents:
        raise ConfigError(
            f"不能导出到 {output}",
            found=f"它在适配器的文件夹 {adapter} 里，那里不能有别的文件",
            todo="换一个 --output。",
        )
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file()):
        raise ConfigError(
            f"{output} 已经存在，而且不是导出的模型",
            expected=f"不存在、空的，或含 {MARK} 的文件夹",
            todo="换一个 --output，或先移走它。",
        )
    try:
        check_writable(output)
    except ConfigError as error:
        raise ConfigError(error.problem, found=error.found, todo="换一个 --output。") from error


def check_kept(output: Path, folder: Path, what: str) -> None:
    """Raises ConfigError when what an export replaces is ``folder`` or holds it."""
    if output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ConfigError(f"不能导出到 {output}", found=f"{what}在这里（{folder}），会被换掉", todo="换一个 --output。")


def check_room(output: Path, form: str, dtype: str, base: Path) -> None:
    """Raises ConfigError when the disk does not hold what will be written, going by the size of the base's files."""
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    weights = stored / 2  # bases are bfloat16 or float16; a float32 one is counted twice
    needed = weights * (BYTES[dtype] + (BYTES["fp32"] if form == "openvino" else 0)) * 1.1 + 5e7
    free = free_bytes(output)
    if free < needed:
        raise ConfigError(
            f"{output} 所在的磁盘空间不够",
            expected=f"约 {needed / 1e9:.1f} GB",
            found=f"{free / 1e9:.1f} GB",
            todo="腾出空间，或换一个 --output。",
        )
