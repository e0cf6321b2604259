"""One version of the code: its commands as processes in a folder of its own, timed, with their memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

METHODS = {"label_scoring": "scripts/train_label_scoring.py", "classifier_head": "scripts/train_classifier.py"}
DOORS = {
    **{Path(script).stem: [script] for script in METHODS.values()},
    **{name: [f"scripts/{name}.py"] for name in ("inference", "evaluate")},
    "run_full_eval": ["evaluation/run_full_eval.py"],
    **{f"zhsenti {name}": ["-m", "zhsenti", name] for name in ("predict", "serve", "export")},
    "zhsenti": ["-m", "zhsenti"],
}
SEED = 42
LIMIT_S, READY_S = 3600, 600  # a command that takes longer is killed; a service that takes longer has failed
SETTINGS: dict[str, Any] = {
    "format": 2,  # of what a step returns
    # The hash seed orders the adapter's ``target_modules``, a set, in its files.
    "environment": {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "PYTHONHASHSEED": "0",
        "COLUMNS": "80",
        "WANDB_MODE": "disabled",
    },
    "splits": {"train": 1200, "dev": 300, "test": 300},
    "train": ["--num_epochs", "1", "--logging_steps", "1", "--memory_budget", "6GB", "--seed", str(SEED)],
    "same_train": ["--max_train_samples", "128", "--max_dev_samples", "40", "--eval_steps", "4"],
    "speed_train": ["--max_train_samples", "64", "--max_dev_samples", "16"],
    "evaluate": ["--max_test_samples", "30", "--seed", str(SEED)],
    "quick": ["--quick", "--max_dev_samples", "50", "--perturbation_samples", "5", "--explain_errors", "1"],
    "export": ["--format", "merged", "--dtype", "bf16", "--samples", "50", "--seed", str(SEED)],
    "rows": {"scores": 200, "batch": 300, "speed": 400, "answers": 10, "requests": 200, "clients": 8},
    "chars": {"most": 50, "long_rows": 10},  # rows to score are short, to save time, but for a few that are cut
}


class Failed(Exception):
    """A command of a checkout did not end well, or never got ready."""


class Done(NamedTuple):
    seconds: float
    peak_mb: float
    stdout: str


class Checkout(NamedTuple):
    """One version of the code; its commands run in ``work``, which holds the inputs and ``before``'s adapters."""

    name: str
    root: Path
    work: Path
    model: str

    def said(self, where: str) -> str:
        return (self.work / where).read_text(encoding="utf-8", errors="replace")

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        first = command[0] if command[0].startswith("-") else str(self.root / command[0])
        env = {**os.environ, **SETTINGS["environment"], "PYTHONPATH": str(self.root)}
        command = [sys.executable, first, *command[1:]]
        with (self.work / "stdout").open("wb") as out, (self.work / "stderr").open("wb") as err:
            return subprocess.Popen(command, cwd=self.work, env=env, stdout=out, stderr=err)

    def run(self, *command: str) -> Done:
        """Run one command to its end.

        Raises:
            Failed: It ended with an error, or took longer than LIMIT_S.
        """
        began = time.perf_counter()
        process = self.start(list(command))
        killer = threading.Timer(LIMIT_S, process.kill)
        killer.start()
        try:
            peak = reap(process)
        finally:
            killer.cancel()
            if process.returncode is None:  # this process is told to end
                process.kill()
        seconds = time.perf_counter() - began
        if process.returncode:
            raise Failed(f"{' '.join(command[:3])}：退出码 {process.returncode}\n{self.said('stderr')[-1500:]}")
        return Done(seconds, peak, self.said("stdout"))

    @staticmethod
    def get(url: str, body: bytes | None = None) -> Any:
        """The JSON at an address, or None while nobody listens there; no proxy is asked."""
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            if body is None:
                return None
            raise Failed(f"服务没有回答：{error}") from error

    @contextmanager
    def service(self, adapter: str) -> Iterator[tuple[Callable[[str], Any], list[float]]]:
        """``zhsenti serve``, up.

        Yields:
            A function that sends one text and gives the answer, and a list: when the service has ended, its peak in MB.

        Raises:
            Failed: It did not start, or did not end well after SIGTERM.
        """
        process, peak = self.start(["-m", "zhsenti", "serve", "--model_path", adapter, "--port", "0"]), []
        try:
            deadline, url = time.monotonic() + READY_S, ""
            while not (url and self.get(f"{url}/readyz")):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"服务没有起来\n{self.said('stderr')[-1500:]}")
                time.sleep(0.05)
                found = re.search(r"http://127\.0\.0\.1:\d+", self.said("stderr"))
                url = found[0] if found else ""
            yield (lambda text: self.get(f"{url}/v1/predict", json.dumps({"text": text}).encode())), peak
            process.terminate()
            peak.append(reap(process))
            if process.returncode:
                raise Failed(f"服务收到 SIGTERM 后没有正常结束：{process.returncode}")
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()


def reap(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process.

    Args:
        process: Not waited for yet; its ``returncode`` is set.

    Returns:
        Its peak resident memory in MB. Linux counts what the parent had before exec, too: this process stays small.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def train(code: Checkout, method: str, folder: str, *more: str) -> Done:
    options = ["--model_name", code.model, "--dataset", "data", "--output_dir", folder, *SETTINGS["train"], *more]
    return code.run(METHODS[method], *options)


def predict(code: Checkout, adapter: str, source: str, output: str) -> Done:
    return code.run("-m", "zhsenti", "predict", "--model_path", adapter, "--input", source, "--output", output)
