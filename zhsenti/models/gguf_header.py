"""The header of a GGUF file, walked before a library reads it: counts and lengths in it take memory and time.

Layout (github.com/ggml-org/ggml, docs/gguf.md), little-endian: ``GGUF``, version, number of tensors, number of values;
each value a key, a type and what it is; each tensor a name, its sizes, its type and where it lies.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from zhsenti.models.untrusted import MAX_DIMS, MAX_TENSORS, SIZES

MAX_VALUES = 10_000
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MEANT = {  # the end of a key -> the name of the size in config.json
    ".block_count": "num_hidden_layers",
    ".embedding_length": "hidden_size",
    ".feed_forward_length": "intermediate_size",
    ".attention.head_count": "num_attention_heads",
    ".attention.head_count_kv": "num_key_value_heads",
    ".vocab_size": "vocab_size",
}


def check_gguf(path: Path) -> None:
    """See that a file's header fits into the file, and names no sizes that no model has.

    Raises:
        ValueError: It does not; a Chinese reason.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        header = _Header(stream, path.stat().st_size)
        header.bytes(4)
        header.number("I")
        tensors, values = header.count("Q", MAX_TENSORS), header.count("Q", MAX_VALUES)
        for _ in range(values):
            key = header.bytes(header.count("Q", 1 << 16)).decode("utf-8", "replace")
            value = header.value(header.number("I"))
            name = next((name for end, name in _MEANT.items() if key.endswith(end)), None)
            if name and not (isinstance(value, int) and 1 <= value <= SIZES[name]):
                raise ValueError(f"{name} = {str(value)[:40]}，期望 1 到 {SIZES[name]} 的整数")
        for _ in range(tensors):
            header.bytes(header.count("Q", 1 << 16))
            header.bytes(8 * header.count("I", MAX_DIMS) + 4 + 8)


class _Header:
    """The file's bytes in order, and how many are left."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def bytes(self, length: int) -> bytes:
        self._spend(length)
        return self._stream.read(length)

    def skip(self, length: int) -> None:
        self._spend(length)
        self._stream.seek(length, 1)

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))[0]

    def count(self, code: str, most: int) -> int:
        found = self.number(code)
        if found > most:
            raise ValueError(f"文件头里的数目 {found} 太大，期望至多 {most}")
        return found

    def value(self, kind: int) -> object:
        """A scalar; None for anything else, which is passed over."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            self.skip(self.number("Q"))
            return None
        if kind != _ARRAY:
            raise ValueError(f"文件头里的类型 {kind} 没有这一种")
        kind, length = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            self.skip(length * struct.calcsize(f"<{_SCALARS[kind]}"))
        elif kind == _STRING:
            for _ in range(length):  # each takes bytes of the file, so the file's end ends it
                self.skip(self.number("Q"))
        else:
            raise ValueError("文件头里有数组的数组")
        return None

    def _spend(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise ValueError("文件头比文件还长")
