"""What a saved LoRA adapter may hold: exactly what zhsenti writes, checked before peft or torch sees any of it.

First the two files by themselves (``open_adapter``, milliseconds, no torch), then against the base they are put on
(``load_adapter``). Shapes: A (r, in), B (out, r).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import ModelError
from zhsenti.models.untrusted import TensorInfo, read_header, read_json, refuse_code

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
PEFTS_OWN = {"classifier", "score"}  # peft adds both to modules_to_save for classifiers, whether they are there or not
NO_HEADS = {"model", "lm_head"}  # parts of the base that an adapter must not replace
MAX_R = 65_536
MAX_SHOWN = 4
MAX_TARGETS = 10_000


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _names(value: Any, pattern: str) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and re.fullmatch(pattern, name) for name in value)


# Keys of adapter_config.json that leave the product B A as it is: what is expected (Chinese), and the test of it. Any
# other one that is set has peft compute, allocate or import something zhsenti never asks for: no adapter of ours.
_ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "peft_type": (" LORA", lambda v: v == "LORA"),
    "task_type": (" CAUSAL_LM 或 SEQ_CLS", lambda v: v in ("CAUSAL_LM", "SEQ_CLS")),
    "bias": (" none", lambda v: v == "none"),
    "r": (f" 1 到 {MAX_R} 的整数", lambda v: type(v) is int and 1 <= v <= MAX_R),
    "lora_alpha": ("正数", lambda v: _number(v) and 0 < v < math.inf),
    "lora_dropout": (" 0 到 1 的数", lambda v: _number(v) and 0 <= v <= 1),
    # A text would be a regular expression of the stranger's.
    "target_modules": ("层名的列表", lambda v: _names(v, r"[\w.]{1,200}") and 0 < len(v) <= MAX_TARGETS),
    "modules_to_save": (
        "模块名的列表",
        lambda v: v is None or (_names(v, r"[a-z_]{1,64}") and NO_HEADS.isdisjoint(v)),
    ),
    # Other ways to initialise change the base's own weights.
    "init_lora_weights": (" true 或 false", lambda v: isinstance(v, bool)),
    "inference_mode": (" true 或 false", lambda v: isinstance(v, bool)),
    "megatron_core": (" megatron.core", lambda v: v == "megatron.core"),
    "qalora_group_size": ("整数", lambda v: type(v) is int),
    "base_model_name_or_path": ("文字", _text),
    "peft_version": ("文字", _text),
    "revision": ("文字", _text),
}


@dataclass(frozen=True)
class SavedLora:
    """What adapter_config.json says.

    Attributes:
        r: Rank of W x + (alpha / r) B A x.
        alpha: Its scale.
        targets: Names of the layers it is on.
        saved: Names of modules that may be saved whole.
    """

    r: int
    alpha: float
    targets: frozenset[str]
    saved: frozenset[str]

    def covers(self, layer: str) -> bool:
        """Whether LoRA is on ``layer``: as peft reads targets, its whole name or its last parts."""
        parts = layer.split(".")
        return any(".".join(parts[start:]) in self.targets for start in range(len(parts)))


@dataclass(frozen=True)
class SavedAdapter:
    """A saved LoRA whose two files have passed ``open_adapter``.

    Attributes:
        folder: Where they lie.
        lora: What the configuration says.
        tensors: Every tensor of the weights file by its name, as its header has them.
        head: Name of the module that is saved whole, None where there is none.
    """

    folder: Path
    lora: SavedLora
    tensors: Mapping[str, TensorInfo]
    head: str | None


def open_adapter(folder: Path) -> SavedAdapter:
    """Configuration and header of the adapter in ``folder``, if they are a LoRA adapter and fit each other.

    Raises:
        ValueError: They do not; a Chinese reason.
        OSError: A file cannot be read.
    """
    lora, tensors = read_lora(folder / CONFIG), read_header(folder / WEIGHTS)
    layers = {found[1] for name in tensors if (found := re.fullmatch(rf"{PREFIX}(.+)\.lora_[AB]\.weight", name))}
    pairs = {f"{PREFIX}{layer}.lora_{part}.weight" for layer in layers for part in "AB"}
    rest = {name: name.removeprefix(PREFIX).partition(".")[0] for name in tensors if name not in pairs}
    _compare(pairs | {name for name, module in rest.items() if module in lora.saved}, tensors)
    heads = set(rest.values())
    if len(heads) > 1 or (lora.saved and not heads) or lora.saved - heads - PEFTS_OWN:
        shown = "、".join(sorted(lora.saved - heads) if heads else sorted(lora.saved))
        raise ValueError(f"modules_to_save 与权重对不上：{shown}")
    for name, info in tensors.items():
        _refuse_kind(name, info, dimensions=(1, 2) if name in rest else (2,))
        rank = {"A": 0, "B": 1}.get(name.removesuffix(".weight")[-1]) if name in pairs else None
        if rank is not None and info.shape[rank] != lora.r:
            raise ValueError(f"{name} 的形状 {list(info.shape)} 与 r = {lora.r} 对不上")
    strange = sorted(layer for layer in layers if not lora.covers(layer))
    if strange or not layers:
        raise ValueError(f"target_modules 与权重对不上：{'、'.join(strange[:MAX_SHOWN]) or '没有 LoRA 权重'}")
    return SavedAdapter(folder, lora, tensors, next(iter(heads), None))


def read_lora(path: Path) -> SavedLora:
    """adapter_config.json, if it is one that zhsenti could have written.

    Raises:
        ValueError: It is not; a Chinese reason.
        OSError: It cannot be read.
    """
    values = read_json(path)
    refuse_code(values)
    more = sorted(key for key, value in values.items() if value and key not in _ALLOWED)
    if more:
        raise ValueError(f"设了 {'、'.join(map(repr, more[:MAX_SHOWN]))}：不是 zhsenti 写的普通 LoRA")
    for key, (wanted, right) in _ALLOWED.items():
        if key in values and not right(values[key]):
            raise ValueError(f"{key} = {json.dumps(values[key])[:80]}，期望{wanted}")
    missing = [key for key in ("peft_type", "task_type", "r", "lora_alpha", "target_modules") if key not in values]
    if missing:
        raise ValueError(f"缺 {'、'.join(missing)}")
    saved = frozenset(values.get("modules_to_save") or [])
    if values["task_type"] == "SEQ_CLS" and not saved:
        raise ValueError(f"task_type = {values['task_type']}，与 modules_to_save 对不上")
    return SavedLora(values["r"], float(values["lora_alpha"]), frozenset(values["target_modules"]), saved)


def load_adapter(model: nn.Module, saved: SavedAdapter, head: str | None) -> dict[str, Tensor]:
    """The adapter's tensors (names without peft's prefix), each of the shape that ``model``, still bare, asks for.

    Args:
        model: The base with the method's output layer.
        saved: The adapter.
        head: Name of the module that the method trains whole, None where it has none.

    Raises:
        ModelError: A tensor is missing, surplus, of another shape, or not finite; the message names it.
    """
    from safetensors.torch import load_file

    try:
        shapes = _shapes(model, saved.lora, head)
        _compare_shapes(shapes, {name: info.shape for name, info in saved.tensors.items()})
        tensors = load_file(saved.folder / WEIGHTS)
        _compare_shapes(
            shapes, {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        )  # the file may be another now
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} 里有 NaN 或无穷大")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"适配器 {saved.folder} 不能用，或与基座对不上",
            found=str(error)[:300],
            todo="用训练时的那个基座（--model_name）；仍不行就重新训练或从备份恢复。",
        ) from error
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _shapes(model: nn.Module, lora: SavedLora, head: str | None) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, module in model.named_modules():
        part = layer.partition(".")[0]
        if not hasattr(module, "in_features") or part == "lm_head" or part == head or not lora.covers(layer):
            continue
        sizes: Any = module.in_features, module.out_features
        shapes[f"{PREFIX}{layer}.lora_A.weight"] = (lora.r, sizes[0])
        shapes[f"{PREFIX}{layer}.lora_B.weight"] = (sizes[1], lora.r)
    if head:
        trained = model.get_submodule(head).named_parameters()
        shapes |= {f"{PREFIX}{head}.{name}": tuple(parameter.shape) for name, parameter in trained}
    return shapes


def _refuse_kind(name: str, info: TensorInfo, dimensions: tuple[int, ...]) -> None:
    if info.dtype not in ("F32", "F16", "BF16") or len(info.shape) not in dimensions:
        raise ValueError(f"{name} 不是浮点矩阵：{info.dtype} {list(info.shape)}")


def _compare(expected: set[str], found: Mapping[str, object]) -> None:
    for problem, names in (("缺", expected - found.keys()), ("多出", found.keys() - expected)):
        if names:
            more = f" 等 {len(names)} 个" if len(names) > MAX_SHOWN else ""
            raise ValueError(f"{problem} {'、'.join(sorted(names)[:MAX_SHOWN])}{more}")


def _compare_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    _compare(set(expected), found)
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{name} 的形状是 {list(found[name])}，期望 {list(shape)}")
