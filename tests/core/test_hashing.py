"""Hashes stand in adapters, checkpoints and results: the digests here were computed before they were moved to core."""

from __future__ import annotations

import hashlib
import json

import pytest

from zhsenti.core.hashing import file_sha256, json_sha256, rows_sha256

ROWS = [["房间很干净", 1, None], ["上菜慢\ud800", 0, "服务"], ['a"b', 2, None]]


def test_a_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"zhsenti\n" * 1000)
    assert file_sha256(path) == "dddaea553473c14f64f1147b53dcdb1d2e28c3ef60149b8c336452f11eff54b2"
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")


def test_a_json_value_whatever_the_order_of_its_keys():
    digest = "607936609213ba7228e92cc7aa94310ad1e6d10390196e735d64db313f07bc71"
    assert json_sha256({"b": [1, 2.5, None, True], "a": "中文\ud800"}) == digest
    assert json_sha256({"a": "中文\ud800", "b": (1, 2.5, None, True)}) == digest
    assert json_sha256({"a": "中文", "b": [1, 2.5, None, True]}) != digest


def test_rows_are_a_data_sets_hash():
    digest = "f54589e4bc743ab7d877fe9d1e75b90a48f567ea69f582c614f28d63db107cc2"
    assert rows_sha256(ROWS) == rows_sha256(tuple(row) for row in ROWS) == digest
    assert rows_sha256(ROWS[::-1]) != digest
    assert rows_sha256([]) == hashlib.sha256().hexdigest()


def test_rows_are_hashed_one_after_another_without_a_separator():
    joined = "".join(json.dumps(row) for row in ROWS)
    assert rows_sha256(ROWS) == hashlib.sha256(joined.encode()).hexdigest()
