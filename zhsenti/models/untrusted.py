"""Files from strangers, read without trusting them: JSON within limits, safetensors headers that add up, no code.

Every function raises ValueError with a Chinese reason; its caller knows which error of zhsenti/core/errors.py that is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# Far above what any Qwen needs (a 72B model: a header of 110 KB with 963 tensors), low enough to read in milliseconds.
MAX_BYTES = 4 << 20
MAX_TENSORS = 20_000
MAX_NAME = 255
MAX_DIMS = 8
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
# Formats that run what they hold when they are loaded. Nothing here reads them.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".dill")
# Keys by which a library would import Python from the folder.
CODE_KEYS = {"auto_map", "auto_mapping", "custom_pipelines", "custom_generate", "trust_remote_code"}
KERNEL_KEYS = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}


FAMILY = ("qwen2", "qwen3")  # what config.json calls the models that are read at all

# Each several times the largest Qwen's: memory is taken by these numbers before a weight is read.
SIZES = {
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "vocab_size": 1 << 20,
}
MAX_HEAD = 1 << 12


@dataclass(frozen=True)
class TensorInfo:
    """A tensor whose bytes are all there.

    Attributes:
        dtype: As safetensors spells it.
        shape: Its sizes.
    """

    dtype: str
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``.

    Raises:
        ValueError: Huge, deep, ambiguous (a key twice) or broken JSON; a Chinese reason.
        OSError: The file cannot be read.
    """
    with _open(path) as (stream, size):
        if size > MAX_BYTES:
            raise ValueError(f"太大：{size} 字节，上限 {MAX_BYTES}")
        return _parse(stream.read(MAX_BYTES), parse_int=_integer)


def refuse_code(values: dict[str, Any]) -> None:
    """Refuse settings that ask a library to run the folder's own code or a downloaded kernel.

    Args:
        values: JSON.

    Raises:
        ValueError: They do; a Chinese reason.
    """
    left: list[Any] = [values]
    while left:  # not a recursion: how deep it goes is the stranger's choice
        value = left.pop()
        if isinstance(value, dict):
            asked = sorted(key for key in CODE_KEYS & value.keys() if value[key])
            if asked:
                raise ValueError(f"设了 {'、'.join(asked)}：会运行文件夹里自带的代码")
            kernels = sorted(key for key in KERNEL_KEYS & value.keys() if "/" in str(value[key]))
            if kernels:
                raise ValueError(f"设了 {'、'.join(kernels)}：会下载并运行别人的代码")
            left += value.values()
        elif isinstance(value, list):
            left += value


def refuse_sizes(config: dict[str, Any]) -> None:
    """Refuse a Qwen's configuration with numbers that no model has: memory is taken by them before a weight is read.

    Args:
        config: What config.json holds.

    Raises:
        ValueError: A size is missing, absurd, or of another type; a Chinese reason.
    """
    optional = {"head_dim": MAX_HEAD} if config.get("head_dim") is not None else {}
    for key, most in {**SIZES, **optional}.items():
        value = config.get(key)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{key} = {str(value)[:40]}，期望 1 到 {most} 的整数")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    whole = config.get("head_dim") is not None or not config["hidden_size"] % heads
    if not whole or heads % groups:
        raise ValueError(f"注意力头数对不上：hidden_size {config['hidden_size']}、{heads} 个头、{groups} 个键值头")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    numbers: dict[str, Any] = {
        "rms_norm_eps": config.get("rms_norm_eps"),
        "rope_theta": config.get("rope_theta") or 1.0,
    }
    if isinstance(rope, dict):
        numbers["rope_parameters.rope_theta"] = rope.get("rope_theta") or 1.0
    for key, value in numbers.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"{key} = {str(value)[:40]}，期望正数")
    types = config.get("layer_types") or []
    if not isinstance(rope, dict) or not isinstance(types, list) or len(types) not in (0, config["num_hidden_layers"]):
        raise ValueError("rope_parameters 或 layer_types 不对")


def is_pickle(name: str) -> bool:
    """Whether a file of this name runs what it holds when it is loaded."""
    return name.lower().endswith(PICKLES)


def refuse_name(name: object) -> None:
    """Refuse what is not the name of a file right in the folder.

    Raises:
        ValueError: ``name`` is a path, or no name at all.
    """
    plain = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_NAME and name not in (".", "..")
    if not plain or any(sign in str(name) for sign in "/\\:"):
        raise ValueError(f"不是文件名：{str(name)[:80]!r}")


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of a safetensors file by its name; no tensor is read.

    Layout: 8 bytes N (little-endian), N bytes of JSON, then the tensors, without a gap, to the end of the file.
    Stricter than the format: no key twice, no unknown keys, no empty tensors, limits on all sizes.

    Raises:
        ValueError: The header does not add up; a Chinese reason.
        OSError: The file cannot be read.
    """
    with _open(path) as (stream, size):
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"文件头说自己有 {length} 字节，文件一共才 {size} 字节")
        if length > MAX_BYTES:
            raise ValueError(f"文件头太大：{length} 字节，上限 {MAX_BYTES}")
        raw = stream.read(length)
    if raw[:1] != b"{":
        raise ValueError("文件头不是 JSON 对象")
    header = _parse(raw, parse_int=_natural, parse_float=_no_number, parse_constant=_no_number)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(map(_is_text, [*metadata, *metadata.values()])):
        raise ValueError("文件头的 __metadata__ 不是文字对文字")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"张量太多：{len(header)} 个，上限 {MAX_TENSORS}")
    end = size - 8 - length
    entries = {name: _entry(name, entry, end) for name, entry in header.items()}
    _refuse_gaps(((name, *offsets) for name, (_, offsets) in entries.items()), end)
    return {name: info for name, (info, _) in entries.items()}


def _entry(name: str, entry: Any, end: int) -> tuple[TensorInfo, tuple[int, int]]:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"张量名不对：{name[:80]!r}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"张量 {name} 的说明不是 dtype、shape、data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ValueError(f"张量 {name} 的类型不认识：{str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > MAX_DIMS or not all(0 < size <= end for size in shape):
        raise ValueError(f"张量 {name} 的形状不对：{str(shape)[:80]}")
    if not _naturals(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= end:
        raise ValueError(f"张量 {name} 的位置不对：{str(offsets)[:80]}，数据共 {end} 字节")
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise ValueError(f"张量 {name} 的形状要 {needed} 字节，位置却给了 {offsets[1] - offsets[0]} 字节")
    return TensorInfo(dtype, tuple(shape)), (offsets[0], offsets[1])


def _is_text(value: Any) -> bool:
    """JSON can spell halves of characters, which no UTF-8 holds."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _refuse_gaps(spans: Iterable[tuple[str, int, int]], end: int) -> None:
    position = 0
    for name, start, stop in sorted(spans, key=lambda span: span[1]):
        if start != position:
            raise ValueError(f"张量 {name} 与前一个{'重叠' if start < position else '之间有空洞'}")
        position = stop
    if position != end:
        raise ValueError(f"最后一个张量之后还有 {end - position} 个字节")


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file (a pipe or a device could block or never end) and its size in bytes."""
    if path.exists() and not path.is_file():
        raise ValueError("不是普通文件")
    with path.open("rb") as stream:
        yield stream, os.fstat(stream.fileno()).st_size


def _parse(raw: bytes, **hooks: Any) -> dict[str, Any]:
    try:
        values = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, **hooks)
    except RecursionError:
        raise ValueError("嵌套太深") from None
    except UnicodeDecodeError:
        raise ValueError("不是 UTF-8 文字") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"不是合法的 JSON（第 {error.lineno} 行第 {error.colno} 列）") from None
    if not isinstance(values, dict):
        raise ValueError("不是 JSON 对象")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two equal keys they take."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"键重复：{again[:80]!r}")
    return values


def _integer(digits: str) -> int:
    """What a float holds too: tokenizers write "no limit" as 10**30."""
    return int(digits) if len(digits) <= 300 else _no_number(digits)


def _natural(digits: str) -> int:
    return int(digits) if digits.isdecimal() and len(digits) <= 19 else _no_number(digits)


def _no_number(text: str) -> Any:
    raise ValueError(f"有不能用的数：{text[:40]}")
