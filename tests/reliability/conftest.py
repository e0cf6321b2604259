"""What the sweep through all commands shares."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A relative path that should have been refused is written where it harms nobody."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def adapter(untrained):
    """An adapter that can be used; nothing may change it."""
    return untrained("label_scoring")
