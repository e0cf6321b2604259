"""What a library's error means for a run: memory ran out, the disk did not take it, another process is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhsenti.core.errors import TrainingError, first_line
from zhsenti.models.failures import is_out_of_memory
from zhsenti.training.checkpoints import last_whole
from zhsenti.training.processes import is_lost_peer


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk did not take something; torch and safetensors wrap that in errors of their own."""
    from safetensors import SafetensorError

    text = str(error)
    signs = ("inline_container", "PytorchStreamWriter", "unexpected pos", "iostream", "No space left", "write failed")
    wrapped = isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    return isinstance(error, (OSError, SafetensorError)) or wrapped


@contextmanager
def explained(output_dir: Path) -> Iterator[None]:
    """Say what out of memory and lost processes mean, wherever in a run they come up.

    Raises:
        TrainingError: In place of the library's error; it names the last checkpoint and how to go on.
    """
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
