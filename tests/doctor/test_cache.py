"""Models and data sets in the cache: whole, damaged, left over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from tests.doctor.helpers import flip, one, sealed_model
from zhsenti.data.registry import DATASETS
from zhsenti.doctor import cache
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM


@pytest.fixture
def model(tmp_path) -> Path:
    """A whole model in the cache, in a folder whose name needs quotes."""
    return sealed_model(tmp_path / "cache" / "models" / "my model")


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda f: flip(f / "model.safetensors"), "SHA-256 不符"),
        (lambda f: (f / "model.safetensors").write_bytes(bytes(999)), "应为 1000 字节，实际 999"),
        (lambda f: (f / "model.safetensors").unlink(), "缺 model.safetensors"),
        (lambda f: (f / "zhsenti_model.json").unlink(), "没有标记"),
        (lambda f: (f / "zhsenti_model.json").write_text("{"), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_text("[1]"), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_text('{"files": {"a": 1}}'), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_bytes(b"\xff"), "读不了"),
    ],
)
def test_a_damaged_model(model, harm, word):
    assert one(cache.models()).status == OK
    harm(model)
    found = one(cache.models())
    assert (found.status, word in found.found) == (PROBLEM, True), found
    assert f"rm -r '{model}'" in found.todo


def test_left_over_folders_and_their_size(tmp_path):
    models = tmp_path / "cache" / "models"
    assert "还没有" in one(cache.models()).found
    for name in (".parts-embedded", ".embedded.0123abcd"):
        (models / name).mkdir(parents=True)
        (models / name / "part").write_bytes(bytes(3_000_000))
    lock = FileLock(models / ".embedded.lock")
    with lock:
        assert [finding.status for finding in cache.models()] == [OK, OK]
    staging, parts = cache.models()
    assert (staging.status, parts.status) == (NOTICE, NOTICE)
    assert staging.todo == f"rm -r {models / '.embedded.0123abcd'}"
    assert "接着取" in parts.todo
    assert "3.0 MB" in staging.found
    assert "3.0 MB" in parts.found


def test_cached_datasets(tmp_path, monkeypatch):
    assert "还没有" in one(cache.datasets()).found
    folder = tmp_path / "cache" / "datasets" / "ChnSentiCorp"
    folder.mkdir(parents=True)
    small = replace(DATASETS.load("ChnSentiCorp"), rows={"train": 3, "dev": 1})
    monkeypatch.setitem(DATASETS, "ChnSentiCorp", small)
    row = json.dumps({"text": "好", "label": 1}) + "\n"
    (folder / "train.jsonl").write_text(row * 3)
    (folder / "dev.jsonl").write_text(row)
    assert one(cache.datasets()).found == "dev 1、train 3 行"
    (folder / "train.jsonl").write_text(row * 2)
    found = one(cache.datasets())
    assert (found.status, "行数不对" in found.found) == (PROBLEM, True)
    assert f"rm -r {folder}" in found.todo
    (folder / "train.jsonl").write_text(row * 2 + row[:8])
    assert "train.jsonl 读不了" in one(cache.datasets()).found
    (folder.parent / ".ChnSentiCorp.0123abcd").mkdir()
    assert [finding.status for finding in cache.datasets()] == [NOTICE, PROBLEM]
