"""One adapter a method, and copies of it and of its base that a test may spoil."""

from __future__ import annotations

import shutil

import pytest

from zhsenti.methods import METHODS


@pytest.fixture(scope="session")
def adapters(untrained):
    return {name: untrained(name) for name in METHODS}


@pytest.fixture
def adapter(adapters, tmp_path):
    return shutil.copytree(adapters["label_scoring"], tmp_path / "lora_adapter")


@pytest.fixture
def base(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "base")
