"""Headers of safetensors files that lie: refused at every door, without memory for what they claim."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

from tests.models.hostile.folders import refused, reseal
from zhsenti.core.errors import ModelError
from zhsenti.models.adapter_check import WEIGHTS
from zhsenti.models.sources import resolve_model
from zhsenti.models.untrusted import MAX_BYTES, read_header

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file_of(header, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(**changes):
    return {"a": ONE | changes}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
HEADERS = {
    "empty": (b"", "一共才 0 字节"),
    "seven bytes": (b"\1" * 7, "一共才 7 字节"),
    "longer than the file": (file_of(one(), b"1234", length=1 << 62), "文件头说自己有"),
    "a giant header": (file_of(b"{" + b" " * MAX_BYTES + b"}"), "文件头太大"),
    "not JSON": (file_of(b"{'a': 1}"), "不是合法的 JSON"),
    "not an object": (file_of(b"[1]"), "不是 JSON 对象"),
    "deep": (file_of(b'{"a":' * 100_000), "嵌套太深"),
    "a name twice": (file_of(TWICE, b"1234"), "键重复：'a'"),
    "a key twice": (file_of(TWICE.split(b',"a"')[0].replace(b'"dtype"', b'"dtype":"F32","dtype"') + b"}", b"1234"),
                    "键重复：'dtype'"),
    "unknown dtype": (file_of(one(dtype="F31"), b"1234"), "类型不认识"),
    "dtype of another kind": (file_of(one(dtype=["F32"]), b"1234"), "类型不认识"),
    "negative size": (file_of(one(shape=[-1]), b"1234"), "不能用的数"),
    "negative offset": (file_of(one(data_offsets=[-4, 0]), b"1234"), "不能用的数"),
    "minus zero": (file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', b"1234"), "不能用的数"),
    "a fraction": (file_of(one(shape=[1.0]), b"1234"), "不能用的数"),
    "NaN": (file_of(one(shape=[float("nan")]), b"1234"), "不能用的数"),
    "true": (file_of(one(shape=[True]), b"1234"), "形状不对"),
    "huge size": (file_of(one(shape=[2**60, 2**60]), b"1234"), "形状不对"),
    "empty tensor": (file_of(one(shape=[0, 2**62], data_offsets=[0, 0])), "形状不对"),
    "many dimensions": (file_of(one(shape=[1] * 99), b"1234"), "形状不对"),
    "no shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"1234"), "的说明不是"),
    "more keys": (file_of(one(code="x"), b"1234"), "的说明不是"),
    "past the end": (file_of(one(data_offsets=[4, 8]), b"1234"), "位置不对"),
    "three offsets": (file_of(one(data_offsets=[0, 4, 8]), b"1234"), "位置不对"),
    "backwards": (file_of(one(data_offsets=[4, 0]), b"1234"), "位置不对"),
    "shape and bytes": (file_of(one(shape=[2]), b"1234"), "形状要 8 字节"),
    "overlap": (file_of({"a": ONE, "b": ONE}, b"1234"), "重叠"),
    "hole": (file_of({"a": ONE, "b": ONE | {"data_offsets": [8, 12]}}, bytes(12)), "空洞"),
    "bytes after the last": (file_of(one(), b"12345"), "还有 1 个字节"),
    "a name of control signs": (file_of({"\x1b[2J": ONE}, b"1234"), "张量名不对"),
    "half a character": (file_of(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"), "张量名"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}, "a": ONE}, b"1234"), "__metadata__"),
    "metadata of halves": (file_of(b'{"__metadata__":{"a":"\\udc00"}}'), "__metadata__"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "不是 UTF-8"),
    "thousands of tensors": (file_of({f"{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
                                      for i in range(20_001)}, bytes(20_001)), "张量太多"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_refused_at_every_door(adapter, base, capsys, name):
    content, reason = HEADERS[name]
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        resolve_model(str(base))
    assert reason in str(caught.value)
    (adapter / WEIGHTS).write_bytes(content)
    reseal(adapter)
    assert reason in refused(adapter, capsys)


def test_headers_are_read_in_milliseconds_whatever_the_file_holds(base, tmp_path):
    assert {name: info.shape for name, info in read_header(base / "model.safetensors").items()} == {
        name: tuple(tensor.shape) for name, tensor in load_file(base / "model.safetensors").items()
    }
    large = tmp_path / "large.safetensors"
    with large.open("wb") as stream:
        stream.write(file_of({"a": {"dtype": "F32", "shape": [1 << 28], "data_offsets": [0, 1 << 30]}}))
        stream.truncate(stream.tell() + (1 << 30))  # a gigabyte of nothing
    tracemalloc.start()
    read_header(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


VALID = save({"a": torch.zeros(2, 3), "b.c": torch.ones(4, dtype=torch.bfloat16)}, metadata={"format": "pt"})
LENGTH = int.from_bytes(VALID[:8], "little")


@st.composite
def mutated(draw) -> bytes:
    """A valid file with some bytes of its header (mostly) changed, put in, or taken out."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(8 + LENGTH, len(content) - 1)))
        kept = draw(st.integers(0, 3))
        content[at : at + kept] = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"0", b",", b"[", b"\\ud800"]))
        if not content:
            return b""
    fitting = LENGTH + len(content) - len(VALID)
    if draw(st.booleans()) and fitting > 0:  # a length that fits again, so that what follows is looked at
        content[:8] = struct.pack("<Q", fitting)
    return bytes(content)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


def header_or_fault(path: Path) -> tuple[dict | None, str]:
    try:
        return read_header(path), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.fuzz
@settings(deadline=None)
@given(content=st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: file_of(b"{" + b + b"}")) | mutated())
@example(VALID)
@example(file_of({}))
def test_any_bytes_are_refused_in_words_or_load(scratch, content):
    scratch.write_bytes(content)
    tracemalloc.start()
    infos, fault = header_or_fault(scratch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    if infos is None:
        assert any("\u4e00" <= character <= "\u9fff" for character in fault), fault
        return
    with safe_open(scratch, "pt") as opened:  # raises where safetensors would not load it
        assert set(opened.keys()) == infos.keys()
        for name, info in infos.items():
            assert tuple(opened.get_tensor(name).shape) == info.shape
