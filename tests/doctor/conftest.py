"""Surroundings that the tests decide about."""

from __future__ import annotations

import pytest

from zhsenti.doctor import network


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch, tmp_path):
    """An empty cache, and none of the developer's proxies, tokens and endpoints."""
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    names = (*network.PROXIES, *network.TOKENS, *network.OFFLINE, "HF_ENDPOINT", "MODELSCOPE_ENDPOINT")
    for name in (*names, "MODELSCOPE_DOMAIN", "CUDA_VISIBLE_DEVICES", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """Put a module of this source where the probing process finds it before the real one."""

    def fake(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return fake
