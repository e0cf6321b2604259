"""Asking the hub and ModelScope for something, where failure is an answer: libraries kept quiet, and why it failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from zhsenti.core.errors import first_line

_OUT_OF_REACH = ("Connect", "Timeout", "NameResolution", "Offline", "Proxy", "SSL")  # in the names of errors


@contextmanager
def silenced(level: int = logging.ERROR) -> Iterator[None]:
    """No log lines up to ``level``: a library's retries, its reports on each of its steps."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def reason_of(error: BaseException, thing: str) -> str:
    """Why a source did not give a thing (Chinese), by the names of the errors that led to ``error``.

    Args:
        error: What a library raised: many kinds, its own and those of the libraries below it.
        thing: What was asked for (模型, 数据集).
    """
    names = {type(cause).__name__ for cause in _causes(error)}
    if any(word in name for name in names for word in _OUT_OF_REACH):
        return "连不上"
    if "LocalEntryNotFoundError" in names:
        return "没有"
    if any("NotFound" in name for name in names - {"FileNotFoundError"}):  # of a file: its message says which
        return f"没有这个{thing}"
    if any("Gated" in name for name in names):
        return "需要授权"
    return first_line(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
