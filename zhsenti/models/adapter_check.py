"""What a saved LoRA adapter may hold: exactly what zhsenti writes, checked before peft or torch sees any of it.

First the two files by themselves (``check_adapter``, milliseconds, no torch), then against the base they are put on
(``load_adapter``). Shapes: A (r, in), B (out, r), head (classes, hidden).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.errors import ModelError
from zhsenti.models.untrusted import TensorInfo, read_header, read_json, refuse_code

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
HEAD = "score"
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
    # A text would be a regular expression of the stranger's; peft adds "classifier" by itself.
    "target_modules": ("层名的列表", lambda v: _names(v, r"[\w.]{1,200}") and 0 < len(v) <= MAX_TARGETS),
    "modules_to_save": (f" {HEAD}", lambda v: v is None or _names(v, f"{HEAD}|classifier")),
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
    """r, alpha  of W x + (alpha / r) B A x;  targets  names of the layers;  head  whether one is saved too."""

    r: int
    alpha: float
    targets: frozenset[str]
    head: bool

    def meant(self, layer: str) -> bool:
        """As peft reads targets: a layer's whole name, or its last parts."""
        parts = layer.split(".")
        return any(".".join(parts[start:]) in self.targets for start in range(len(parts)))


def check_adapter(folder: Path, classes: int) -> None:
    """Raises ValueError (a Chinese reason) when configuration and weights are not a LoRA adapter for ``classes``."""
    lora, tensors = read_lora(folder / CONFIG), read_header(folder / WEIGHTS)
    layers = {found[1] for name in tensors if (found := re.fullmatch(rf"{PREFIX}(.+)\.lora_[AB]\.weight", name))}
    expected = {f"{PREFIX}{layer}.lora_{part}.weight" for layer in layers for part in "AB"}
    if lora.head:
        expected.add(f"{PREFIX}{HEAD}.weight")
    _compare(expected, tensors)
    for name, info in tensors.items():
        _refuse_kind(name, info)
        shape, rank = info.shape, {"A": 0, "B": 1}.get(name.removesuffix(".weight")[-1])
        if rank is None and shape[0] != classes:
            raise ValueError(f"分类头 {name} 有 {shape[0]} 类，任务有 {classes} 个标签")
        if rank is not None and shape[rank] != lora.r:
            raise ValueError(f"{name} 的形状 {list(shape)} 与 r = {lora.r} 对不上")
    strange = sorted(layer for layer in layers if not lora.meant(layer))
    if strange or not layers:
        raise ValueError(f"target_modules 与权重对不上：{'、'.join(strange[:MAX_SHOWN]) or '没有 LoRA 权重'}")


def read_lora(path: Path) -> SavedLora:
    """adapter_config.json, if it is one that zhsenti could have written. Raises ValueError with a Chinese reason."""
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
    head = HEAD in (values.get("modules_to_save") or [])
    if head != (values["task_type"] == "SEQ_CLS"):
        raise ValueError(f"task_type = {values['task_type']}，与 modules_to_save 对不上")
    return SavedLora(values["r"], float(values["lora_alpha"]), frozenset(values["target_modules"]), head)


def load_adapter(model: nn.Module, folder: Path) -> tuple[SavedLora, dict[str, Tensor]]:
    """The adapter's tensors (names without peft's prefix), each of the shape that ``model``, still bare, asks for.

    Raises ModelError naming the tensors that are missing, surplus, of another shape, or not finite.
    """
    from safetensors.torch import load_file

    try:
        lora, infos = read_lora(folder / CONFIG), read_header(folder / WEIGHTS)
        shapes = _shapes(model, lora)
        _compare(set(shapes), infos)
        for name, shape in shapes.items():
            _refuse_kind(name, infos[name])
            if infos[name].shape != shape:
                raise ValueError(f"{name} 的形状是 {list(infos[name].shape)}，期望 {list(shape)}")
        tensors = load_file(folder / WEIGHTS)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} 里有 NaN 或无穷大")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"适配器 {folder} 不能用，或与基座对不上",
            found=str(error)[:300],
            todo="用训练时的那个基座（--model_name）；仍不行就重新训练或从备份恢复。",
        ) from error
    return lora, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _shapes(model: nn.Module, lora: SavedLora) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, module in model.named_modules():
        if not hasattr(module, "in_features") or layer == "lm_head":
            continue
        sizes: Any = module.in_features, module.out_features
        if layer == HEAD:
            shapes[f"{PREFIX}{layer}.weight"] = (sizes[1], sizes[0])
        elif lora.meant(layer):
            shapes[f"{PREFIX}{layer}.lora_A.weight"] = (lora.r, sizes[0])
            shapes[f"{PREFIX}{layer}.lora_B.weight"] = (sizes[1], lora.r)
    return shapes


def _refuse_kind(name: str, info: TensorInfo) -> None:
    if info.dtype not in ("F32", "F16", "BF16") or len(info.shape) != 2:
        raise ValueError(f"{name} 不是浮点矩阵：{info.dtype} {list(info.shape)}")


def _compare(expected: set[str], found: Mapping[str, TensorInfo]) -> None:
    for problem, names in (("缺", expected - found.keys()), ("多出", found.keys() - expected)):
        if names:
            more = f" 等 {len(names)} 个" if len(names) > MAX_SHOWN else ""
            raise ValueError(f"{problem} {'、'.join(sorted(names)[:MAX_SHOWN])}{more}")
