"""The registry of export formats. Names cost nothing to list; a format's file is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from zhsenti.core.registry import Registry
from zhsenti.export.base import AUTO, Format

FORMATS: Registry[Format] = Registry(
    "导出格式",
    {
        "merged": "zhsenti.export.merged:MERGED",
        "gguf": "zhsenti.export.gguf:GGUF",
        "onnx": "zhsenti.export.onnx:ONNX",
        "openvino": "zhsenti.export.openvino:OPENVINO",
    },
)
DEFAULT = "merged"


class _Dtypes(Collection[str]):
    """``auto`` and every type of weights that some format can hold, as the registry is when it is asked."""

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([AUTO, *(dtype for name in FORMATS for dtype in FORMATS.load(name).dtypes)]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, word: object) -> bool:
        return any(word == dtype for dtype in self)


DTYPES = _Dtypes()
