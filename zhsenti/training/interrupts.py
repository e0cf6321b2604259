"""Signals that ask a run to stop: the step that is being computed is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

AT_ONCE_SECONDS = 1.0  # a launcher and the terminal may both pass on one Ctrl-C
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
Handler = Callable[[int, FrameType | None], object] | int | None


class StopRequest:
    """While active, the first SIGINT, SIGTERM or SIGHUP is only remembered; a second one ends the process.

    A signal that the caller ignores (nohup) stays ignored.

    Attributes:
        signal: Number of the signal that came; 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._came_at = 0.0
        self._handlers_before: dict[int, Handler] = {}

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python lets nobody listen
            if in_main and signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers_before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers_before.items():
            if handler is not None:  # one that was not set by Python cannot be set back
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.signal:
            self.signal, self._came_at = number, now
            # Not print: the signal may have come in the middle of one.
            os.write(2, "\n收到停止信号：做完这一步（连同正在做的验证），存好检查点就停；再来一次立即停止。\n".encode())
        elif now - self._came_at > AT_ONCE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
