"""A Python script or module as a user starts it, in a process forked from one that has torch and transformers already.

Importing them takes five seconds of every process, most of what a test of a command line costs. Everything else is as
in a process of its own: folder, environment, standard streams, ``__main__``, exit code. What the libraries read from
the environment when they are imported is the exception; a test of that starts Python.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.training.doomed import CONTEXT


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: str = "", timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """``python words…``.

    Args:
        words: A script's path and its arguments, or ``-m``, a module's name and its arguments.
        cwd: The folder it stands in.
        env: Its environment.
        stdin: What it can read.
        timeout: Seconds after which it hangs.

    Returns:
        Exit code, stdout and stderr.

    Raises:
        TimeoutError: It hangs; it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(stdin, encoding="utf-8")
        process = CONTEXT.Process(
            target=_run, args=(list(map(str, words)), str(cwd), dict(env), list(map(str, streams)))
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{words}: {streams[2].read_text(encoding='utf-8', errors='replace')[-2000:]}")
        said = (stream.read_text(encoding="utf-8") for stream in streams[1:])
        return subprocess.CompletedProcess(list(words), process.exitcode, *said)


def _run(words: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(streams):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    code: object = 0
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(code or 0))  # type: ignore[call-overload]
