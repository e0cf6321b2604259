"""Waiting for what another process or thread will do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Return once ``condition()`` is true.

    Args:
        condition: Asked every few milliseconds.
        seconds: How long it may take.

    Raises:
        AssertionError: It was not true in that time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
