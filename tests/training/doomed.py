"""Training runs in processes of their own that are killed where a test says; forked from a server that has imported
torch and transformers already, so that each costs a second and not ten."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tests.waiting import until
from zhsenti.artifact import open_artifact
from zhsenti.training.checkpoints import checkpoints, fault_of

RESUME = ["--resume_from_checkpoint", "auto"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.training.doomed", "zhsenti.training.finish", "zhsenti.training.run", "peft", "tests.preload"]
)


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        code: Of its process, as subprocess gives it (negative: killed by that signal).
        said: All that it printed.
    """

    code: int
    said: str


def start(argv: list[str], log: Path, *, method: str = "label_scoring", **hooks: Any) -> Any:
    """A training process; ``hooks`` go to ``_prepare``."""
    log.write_bytes(b"")  # before the process does it itself: nobody may read the last run's words
    process = CONTEXT.Process(target=_run, args=(argv, str(log), method, hooks))
    process.start()
    return process


def outcome(process: Any, log: Path, timeout: float = 300) -> Outcome:
    process.join(timeout)
    assert process.exitcode is not None, "the run hangs"
    return Outcome(process.exitcode, log.read_text(encoding="utf-8"))


def run(argv: list[str], log: Path, **hooks: Any) -> Outcome:
    return outcome(start(argv, log, **hooks), log)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Lines of ``train_results.json`` of one kind."""
    lines = (folder / "train_results.json").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == kind]


def losses(folder: Path) -> list[float]:
    """The loss of every step that was written down."""
    return [entry["loss"] for entry in events(folder, "train")]


def weights(output: Path) -> dict[str, Any]:
    """The adapter that a run has saved."""
    return load_file(output / "lora_adapter" / "adapter_model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def check_resumes(output: Path, log: Path, argv: list[str], whole: Path, **hooks: Any) -> None:
    """The killed run ``argv`` in ``output`` goes on and ends as the one in ``whole`` that nobody disturbed."""
    for checkpoint in checkpoints(output):
        assert not fault_of(checkpoint), "what is called a checkpoint is whole"
    done = run([*argv, *RESUME], log, **hooks)
    assert done.code == 0, done.said
    assert "Traceback" not in done.said
    assert same(weights(output), weights(whole)), "other weights than without the kill"
    (last,), (expected,) = checkpoints(output), checkpoints(whole)
    assert last.name == expected.name
    for name in ("adapter_model.safetensors", "best_adapter.safetensors"):
        assert (last / name).exists() == (expected / name).exists()
        assert not (last / name).exists() or same(load_file(last / name), load_file(expected / name))
    open_artifact(output / "lora_adapter")
    hidden = sorted(p.name for p in output.iterdir() if p.name.startswith(".") and p.name != ".lock")
    assert not hidden, "something unfinished was left"


def wait_for(path: Path, text: str, timeout: float = 120) -> None:
    """Until ``text`` stands in ``path``."""

    def said() -> str:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    until(lambda: text in said(), timeout, lambda: f"{text!r} never came: {said()[-2000:]}")


def _run(argv: list[str], log: str, method: str, hooks: dict[str, Any]) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    from zhsenti.core.errors import exit_on_error
    from zhsenti.training.command import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind "&"
    _prepare(argv, **hooks)
    code = exit_on_error(main, ["--method", method, *argv])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _prepare(
    argv: list[str],
    *,
    kill_at: int = 0,
    count_in: str = "",
    file_limit: int = 0,
    slow_steps: float = 0.0,
    threads: int = 1,
) -> None:
    """Arrange for the end of this process.

    Args:
        argv: Of the run.
        kill_at: SIGKILL before the n-th file operation; 0 for none.
        count_in: A file that gets a line for each file operation.
        file_limit: Bytes that a file may have.
        slow_steps: Seconds added to each step.
        threads: Of torch.
    """
    import torch

    torch.set_num_threads(threads)
    if hasattr(signal, "SIGHUP"):  # nohup has it ignored, and what is ignored stays so in a training
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if kill_at or count_in:
        _watch_files(Path(argv[argv.index("--output_dir") + 1]), kill_at, count_in)
    if file_limit:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    if slow_steps:
        from zhsenti.training.loop import SentimentTrainer

        step = SentimentTrainer.training_step

        def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
            time.sleep(slow_steps)
            return step(self, *args, **kwargs)

        SentimentTrainer.training_step = slow  # type: ignore[method-assign]


def _watch_files(folder: Path, kill_at: int, count_in: str) -> None:
    """Count what changes files in ``folder``: opening for writing, renaming, making and deleting, each fsync, and
    before, in the middle of (half the file is there) and after each file that torch and safetensors write natively.

    Logs do not count: they are no part of what a checkpoint is.
    """
    import safetensors.torch
    import torch

    count = 0
    inside, ours = str(folder.absolute()) + os.sep, os.getpid()

    def tick(what: str, path: Any = "") -> bool:
        """Whether this is the operation to die at; dies here unless it is to be in the middle of a file."""
        nonlocal count
        count += 1
        if count_in:
            with open(os.open(count_in, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", closefd=True) as stream:
                stream.write(f"{what} {path}\n")
        if count == kill_at and what != "half":
            os.kill(ours, signal.SIGKILL)
        return count == kill_at

    def is_inside(path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        name = os.path.abspath(os.fsdecode(path))
        return name.startswith(inside) and not any(log in name for log in ("tensorboard", "train_results.json"))

    def watch(event: str, args: tuple[Any, ...]) -> None:
        path = args[0] if args else None
        if event == "open":
            changes = is_inside(path) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        elif event in ("os.remove", "os.rmdir") and args[1] >= 0:
            changes = True  # shutil.rmtree names files relative to their folder
        else:
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate") and is_inside(path)
        if changes:
            tick(event, path)

    def native(write: Any, place: int) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            path = args[place]
            tick("before", path)
            result = write(*args, **kwargs)
            if tick("half", path):
                os.truncate(path, os.path.getsize(path) // 2)
                os.kill(ours, signal.SIGKILL)
            tick("after", path)
            return result

        return wrapper

    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        tick("fsync")
        real_fsync(descriptor)

    torch.save = native(torch.save, 1)
    safetensors.torch.serialize_file = native(safetensors.torch.serialize_file, 1)
    os.fsync = fsync
    sys.addaudithook(watch)
