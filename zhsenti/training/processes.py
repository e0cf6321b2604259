"""One training run in several processes: torch.distributed underneath, torch's elastic agent to start them.

Every process sees the same updates and computes gradients of its share of the reviews; gradients are summed, so an
update is what one process would compute, up to the order of sums.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from zhsenti.core import console
from zhsenti.core.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE_SECONDS = 1800  # how long one may wait for another: it may be reading, or writing to a slow disk
SPEAK_SECONDS = 5
# For the step, the evaluation and the checkpoint that a stop signal waits for; torch 2.11 grants 30 in any case.
STOP_SECONDS = 600

T = TypeVar("T")


class Processes:
    """This process among those of the run, as torchrun's environment names them; alone when it names none.

    Every method but ``share`` and ``say`` must be called by all of them.

    Attributes:
        rank: Number of this process; 0 speaks, writes and decides.
        count: How many there are.
    """

    def __init__(self) -> None:
        self.rank, self.count = 0, started_count()
        if self.count > 1:
            self.rank = int(os.environ["RANK"])
            self._join()

    @property
    def is_main(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def say(self, line: str, *, indent: int = 0) -> None:
        """A line for the user (``core.console.say``), from process 0 alone."""
        if self.is_main:
            console.say(line, indent=indent)

    def _join(self) -> None:
        import torch
        import torch.distributed as dist

        if torch.cuda.is_available():
            # A cluster may show each process its own card alone, which is number 0 to all of them.
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=PATIENCE_SECONDS))

    def leave(self) -> None:
        """The orderly end: nobody goes before all are done."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()
            dist.destroy_process_group()

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part; neighbours in length go to different processes."""
        return list(items[self.rank :: self.count])

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in one message; the same bits everywhere."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        tensors = list(tensors)
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give ``tensors`` everywhere the values they have in process 0."""
        if self.count > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in process 0, in every process."""
        if self.count == 1:
            return make()
        import torch.distributed as dist

        box = [make() if self.is_main else None]
        dist.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def least(self, value: int) -> int:
        """The smallest value that a process gives."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        box = torch.tensor(value)
        dist.all_reduce(box, op=dist.ReduceOp.MIN)
        return int(box)

    def any(self, value: T) -> T:
        """The first process's value that is true, everywhere; where none is, each keeps its own."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value)
        return next((v for v in values if v), value)


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another process is gone."""
    signs = ("Connection closed", "Connection reset", "Broken pipe", "Timed out waiting", "NCCL", "DistNetworkError")
    text = f"{type(error).__name__} {error}"
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def started_count() -> int:
    """How many processes torchrun (or ``launch``) started, this one among them; 1 when none did.

    Raises:
        ConfigError: The environment says so only in part (a cluster's leftovers).
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count in ("", "1"):
        return 1
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing or not count.isdecimal() or not os.environ["RANK"].isdecimal():
        raise ConfigError(
            f"环境变量说有 {count} 个进程（WORLD_SIZE），但说得不全",
            found=f"缺 {'、'.join(missing)}" if missing else f"RANK={os.environ['RANK']}",
            todo="用 --num_processes 或 torchrun 启动；只要一个进程就 unset WORLD_SIZE。",
        )
    return int(count)


def let_main_speak() -> None:
    """Wait a little in a process that meets a mistake, unless it is process 0, which most likely meets the same.

    Whoever ends first has the others stopped, process 0 perhaps in the middle of ending; what it has said would then be
    said once more for this one.
    """
    if int(os.environ.get("RANK") or 0):
        time.sleep(SPEAK_SECONDS)


def launch(count: int, argv: list[str], output_dir: Path) -> int:
    """Run a command in ``count`` processes of this machine.

    All of them end when one does not end well. Process 0 is heard; another one when it alone has something to say.

    Args:
        count: How many.
        argv: The command after the name of this Python.
        output_dir: Where the run writes, for the message.

    Returns:
        The exit code of the whole.

    Raises:
        ConfigError: There are fewer GPUs than processes.
        TrainingError: A process was killed.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if gpus and count > gpus:
        raise ConfigError("进程多于显卡", expected=f"--num_processes 至多 {gpus}", found=str(count))
    # Without this each process would start a thread a core.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // (1 if gpus else count))))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(STOP_SECONDS))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says is said below
    logs = Path(tempfile.mkdtemp(prefix="zhsenti-"))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
        max_restarts=0,
        monitor_interval=0.5,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=dict.fromkeys(range(1, count), Std.ALL)),
    )
    try:
        elastic_launch(config, sys.executable)(*argv)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode > 0:
            spoke = 0 in error.failures and error.failures[0].exitcode > 0
            for log in [] if spoke else sorted(logs.rglob(f"{rank}/stderr.log")):
                console.say(log.read_text(encoding="utf-8", errors="replace").removesuffix("\n"))
            return first.exitcode
        raise TrainingError(
            f"第 {rank} 个训练进程被信号 {-first.exitcode} 杀掉，其余进程已一起停下",
            todo=f"多半是内存不足。继续训练：同一条命令加 --resume_from_checkpoint auto（{output_dir}）。",
        ) from None
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    return 0
