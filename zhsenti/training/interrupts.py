"""How a run may end before its time: asked to stop, out of memory, out of disk."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from zhsenti.core.errors import TrainingError, first_line
from zhsenti.core.files import free_bytes
from zhsenti.training.checkpoints import last_whole
from zhsenti.training.processes import is_lost_peer

MARGIN_BYTES = 50e6  # log, TensorBoard, rounding of blocks
AT_ONCE_SECONDS = 1.0  # a launcher and the terminal may both pass on one Ctrl-C
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """While active, the first SIGINT, SIGTERM or SIGHUP is only remembered (``signal``); a second one ends the process.

    A signal the caller ignores (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python lets nobody listen
            if in_main and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # one that was not set by Python cannot be set back
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.signal:
            self.signal, self._since = number, now
            # Not print: the signal may have come in the middle of one.
            os.write(2, "\n收到停止信号：做完这一步（连同正在做的验证），存好检查点就停；再来一次立即停止。\n".encode())
        elif now - self._since > AT_ONCE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def check_space(output_dir: Path, needed: float, there: list[Path]) -> None:
    """Raises TrainingError when ``output_dir``'s disk cannot hold ``needed`` bytes of checkpoints and adapter; the
    folders in ``there`` hold a part of them already."""
    needed -= sum(path.stat().st_size for folder in there for path in folder.iterdir() if path.is_file())
    free = free_bytes(output_dir)
    if free < max(needed, 0) + MARGIN_BYTES:
        raise TrainingError(
            f"磁盘空间不够存检查点：{output_dir}",
            expected=f"至少 {(max(needed, 0) + MARGIN_BYTES) / 1e6:,.0f} MB",
            found=f"剩 {free / 1e6:,.0f} MB",
            todo="腾出空间，减小 --save_total_limit，或用 --output_dir 换一个位置。",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's own error, Python's, and torch's plain RuntimeError for a failed malloc."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    )


def is_disk_error(error: BaseException) -> bool:
    """What the disk did not take; torch and safetensors wrap it in errors of their own."""
    from safetensors import SafetensorError

    text = str(error)
    signs = ("inline_container", "PytorchStreamWriter", "unexpected pos", "iostream", "No space left", "write failed")
    wrapped = isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    return isinstance(error, (OSError, SafetensorError)) or wrapped


@contextmanager
def explained(output_dir: Path) -> Iterator[None]:
    """Out of memory and lost processes, wherever in a run, as one TrainingError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        go_on = f"{last_whole(output_dir)}；同一条命令加 --resume_from_checkpoint auto 继续。"
        if is_out_of_memory(error):
            todo = f"腾出内存，减小 --max_length，换小一号的基座，或加 --use_qlora。{go_on}"
            raise TrainingError("内存不足", found=first_line(error), todo=todo) from error
        if is_lost_peer(error):
            raise TrainingError("另一个训练进程不在了，这个进程也停下", todo=go_on) from error
        raise
