"""Waiting for what another process or thread will do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object], seconds: float = 10, why: Callable[[], str] = lambda: "waited in vain"
) -> None:
    """Return once ``condition()`` is true.

    Args:
        condition: Asked every few milliseconds.
        seconds: How long it may take.
        why: What to say when it took longer.

    Raises:
        AssertionError: It was not true in that time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.005)
