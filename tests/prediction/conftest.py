"""A tiny trained adapter of every method."""

from __future__ import annotations

import pytest

from zhsenti.methods import METHODS


@pytest.fixture(scope="session", params=list(METHODS))
def adapter(request, trained):
    """The folder; tests that change it copy it first."""
    return trained(request.param) / "lora_adapter"
