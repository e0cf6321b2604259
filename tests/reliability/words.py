"""A command line that ends in words: exit code 0 or 2, no traceback, nothing that hangs, valid UTF-8."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator

from zhsenti.core.errors import exit_on_error
from zhsenti.training import command as training

SECONDS = 60  # what takes longer hangs
train = training.main


class Hangs(BaseException):
    """No Exception: nothing may take it for a fault of its own."""


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends_in_words(main: Callable[[list[str]], int], *words: object) -> tuple[int, str]:
    """Exit code and what a person read. Streams are as Python opens them: stdout refuses what is no UTF-8."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), no_longer_than(SECONDS):
        code = exit_on_error(main, [str(word) for word in words])
    said = err.buffer.getvalue().decode("utf-8")
    out.buffer.getvalue().decode("utf-8")
    assert "Traceback" not in said
    assert code in (0, 2), said
    assert ("错误：" in said) == (code == 2), said
    return code, said
