"""Another checkout against this one, through the promised command lines only: are the results the same, and the speed?

    python benchmarks/against.py --before ../before [--dataset DIR] [--model embedded] [--only same|speed]
                                 [--steps train,scores] [--json FILE]

same   Help texts; the loss curve, weights and manifest of a short training with each method, resumed from half-way
       too; scores of 200 rows with the adapter trained by ``--before`` and with the checkout's own; every file of an
       evaluation but those in UNCOMPARED; bytes of batch jobs (CSV, JSONL, Parquet); answers of the service; an
       exported model. One line a comparison; exit code 1 if any differs.
speed  Whole processes in turns (before, after, before, …): medians, and after ÷ before.

Commands run in a temporary folder, with relative paths, so that both sides' JSONs name the same ones: nothing but the
fields in VOLATILE is left out of a comparison. Threads and the memory budget are fixed, since they decide how sums are
cut. The before side of "same" is kept in ``--cache`` by commit, sources, settings and machine, one file a step: a rerun
only computes this checkout's. Every comparison is printed and written to ``--json`` as soon as it is made.
``--after ../before`` holds a checkout against a second run of itself.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
METHODS = {"label_scoring": "scripts/train_label_scoring.py", "classifier_head": "scripts/train_classifier.py"}
DOORS = {
    **{Path(script).stem: [script] for script in METHODS.values()},
    **{name: [f"scripts/{name}.py"] for name in ("inference", "evaluate")},
    "run_full_eval": ["evaluation/run_full_eval.py"],
    **{f"zhsenti {name}": ["-m", "zhsenti", name] for name in ("predict", "serve", "export")},
    "zhsenti": ["-m", "zhsenti"],
}
# What differs between two runs of the same code: times, speeds and measured memory.
VOLATILE = {"time", "date", "seconds", "prepare_seconds", "rows_per_second", "reviews_per_second", "estimated_seconds",
            "peak_memory_gb"}  # fmt: skip
UNCOMPARED = {"report.html", "model_card.md"}  # the evaluation's JSONs again, with its date and speeds
WEIGHTS, SEED = "adapter_model.safetensors", 42
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


# ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_split(folder: Path, name: str) -> list[tuple[str, str]]:
    """Rows of a split's CSV or TSV, which has a column ``label`` and one more.

    Returns:
        (text, label) of each.

    Raises:
        SystemExit: There is no such file.
    """
    path = next((path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in (".tsv", ".csv")), None)
    if path is None:
        raise SystemExit(f"错误：{folder} 里没有 {name}.tsv 或 {name}.csv，用 --dataset 给出 ChnSentiCorp 的文件夹")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        tabs = path.suffix == ".tsv"
        head, *rows = csv.reader(stream, **({"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}))
    label = head.index("label")
    return [(row[1 - label], row[label]) for row in rows if len(row) == 2]


def write_csv(path: Path, head: tuple[str, ...], rows: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def write_inputs(dataset: Path, work: Path) -> None:
    """``data`` (a small dataset), ``scores.csv``, ``speed.csv`` and the three ``batch`` files."""
    import pyarrow
    import pyarrow.parquet

    chance, everything = random.Random(SEED), []
    for name, count in SETTINGS["splits"].items():
        rows = read_split(dataset, name)
        everything += rows
        write_csv(work / f"data/{name}.csv", ("text", "label"), chance.sample(rows, min(count, len(rows))))
    chars, count = SETTINGS["chars"], SETTINGS["rows"]
    texts = chance.sample(sorted({text for text, _ in everything if len(text) <= chars["most"]}), count["speed"])
    texts[1 : 1 + chars["long_rows"]] = sorted((text for text, _ in everything), key=len)[-chars["long_rows"] :]
    texts[20:22] = ['他说："还行"，\n第二行, 就这样 😀', ""]  # the empty one becomes a row with an error
    for name in ("scores", "speed"):
        write_csv(work / f"{name}.csv", ("id", "text"), list(enumerate(texts[: count[name]])))
    table = [{"id": n, "text": text, "来源": f"店{n % 3}"} for n, text in enumerate(texts[: count["batch"]])]
    write_csv(work / "batch.csv", tuple(table[0]), [tuple(row.values()) for row in table])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
    (work / "batch.jsonl").write_text(lines, encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), work / "batch.parquet")


def texts_of(work: Path) -> list[str]:
    with (work / "scores.csv").open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


# ── same ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def steady(value: Any) -> Any:
    """A JSON value without VOLATILE fields."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, Any]:
    """Name -> JSON without VOLATILE fields, or the SHA-256, of every file in a folder but a cache and UNCOMPARED."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: steady(json.loads(path.read_bytes())) if path.suffix == ".json" else sha256(path)
        for name, path in files.items()
        if name not in UNCOMPARED and not name.startswith("cache/")
    }


def trained(folder: Path) -> dict[str, Any]:
    """What a run left: the log since it last began, the adapter, and the last checkpoint's files.

    The adapter is the best step's, which may be an early one; the checkpoint's weights have seen every step. A mean of
    each of its tensors is there to tell how far two runs are apart.
    """
    from safetensors.numpy import load_file

    log, last = read_lines(folder / "train_results.json"), checkpoints(folder)[-1]
    begins = max(n for n, line in enumerate(log) if line["event"] in ("start", "resume"))
    tensors = load_file(last / WEIGHTS)
    return {
        "curve": steady(log[begins:]),
        "means": {name: float(abs(tensor).mean()) for name, tensor in sorted(tensors.items())},
        "adapter": contents(folder / "lora_adapter"),
        last.name: {name: found for name, found in contents(last).items() if not name.endswith(".json")},
    }


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def train(code: Checkout, method: str, folder: str, *more: str) -> Done:
    options = ["--model_name", code.model, "--dataset", "data", "--output_dir", folder, *SETTINGS["train"], *more]
    return code.run(METHODS[method], *options)


def resume(code: Checkout, method: str, kept: Path) -> dict[str, Any]:
    """``before``'s run, cut after its first checkpoint, goes on in this code."""
    folder = code.work / "half" / method
    shutil.copytree(kept / method, folder)
    for path in [folder / "lora_adapter", *checkpoints(folder)[1:]]:
        shutil.rmtree(path)
    train(code, method, f"half/{method}", *SETTINGS["same_train"], "--resume_from_checkpoint", "auto")
    ends = {sha256(checkpoints(run)[-1] / WEIGHTS) for run in (folder, kept / method)}
    return {**trained(folder), "as_uninterrupted": len(ends) == 1}


def predict(code: Checkout, adapter: str, source: str, output: str) -> Done:
    return code.run("-m", "zhsenti", "predict", "--model_path", adapter, "--input", source, "--output", output)


def scores(code: Checkout, adapter: str) -> list[Any]:
    predict(code, adapter, "scores.csv", "scores.jsonl")
    rows = read_lines(code.work / "scores.jsonl")
    (code.work / "scores.jsonl").unlink()
    return rows


def batch(code: Checkout, adapter: str, kind: str) -> str:
    predict(code, adapter, f"batch.{kind}", f"result.{kind}")
    return sha256(code.work / f"result.{kind}")


def evaluation(code: Checkout, door: str, folder: str, *options: str) -> dict[str, Any]:
    code.run(*DOORS[door], "--dataset", "data", "--output_dir", folder, *SETTINGS["evaluate"], *options)
    return contents(code.work / folder)


def answers(code: Checkout, adapter: str) -> list[Any]:
    with code.service(adapter) as (ask, _):
        return [ask(text) for text in texts_of(code.work)[: SETTINGS["rows"]["answers"]]]


def export(code: Checkout, adapter: str, kept: Path) -> dict[str, Any]:
    """Merged weights, checked on ``before``'s surest rows: so short a training leaves ties, which rounding decides."""
    rows = json.loads(step_file(kept, "scores/label_scoring").read_text(encoding="utf-8"))
    surest = sorted((row for row in rows if row["label"]), key=lambda row: -row["confidence"])[:60]
    write_csv(code.work / "surest.csv", ("text",), [(row["text"],) for row in surest])
    options = ["--model_path", adapter, "--dataset", "surest.csv", "--output", "exported", *SETTINGS["export"]]
    code.run(*DOORS["zhsenti export"], *options)
    found = contents(code.work / "exported")
    shutil.rmtree(code.work / "exported")
    return found


def own(code: Checkout, method: str, kept: Path) -> dict[str, Any]:
    """A training of this code; the before side's is kept for all other steps."""
    train(code, method, f"run/{method}", *SETTINGS["same_train"])
    if code.name == "before":
        shutil.rmtree(kept / method, ignore_errors=True)
        shutil.copytree(code.work / "run" / method, kept / method)
    return trained(code.work / "run" / method)


def steps(code: Checkout, kept: Path) -> dict[str, Callable[[], Any]]:
    """Name -> what computes its value, in the order they must run."""
    adapter = {method: f"before/{method}/lora_adapter" for method in METHODS}
    first, second = adapter.values()
    table: dict[str, Callable[[], Any]] = {
        f"help/{name}": lambda door=door: code.run(*door, "--help").stdout.splitlines() for name, door in DOORS.items()
    }
    for method in METHODS:
        table[f"train/{method}"] = lambda m=method: own(code, m, kept)
        table[f"scores/{method}"] = lambda m=method: scores(code, adapter[m])
        if code.name != "before":  # whose own adapter is that
            table[f"scores_own/{method}"] = lambda m=method: scores(code, f"run/{m}/lora_adapter")
        table[f"resume/{method}"] = lambda m=method: resume(code, m, kept)
    for kind in ("csv", "jsonl", "parquet"):
        table[f"batch/{kind}"] = lambda k=kind: batch(code, first, k)
    full = ["--model_path", first, "--other_adapters", second, *SETTINGS["quick"]]
    table["evaluation/full"] = lambda: evaluation(code, "run_full_eval", "full", *full)
    table["evaluation/adapter"] = lambda: evaluation(code, "evaluate", "adapter", "--model_path", second)
    table["service"] = lambda: answers(code, second)
    table["export"] = lambda: export(code, first, kept)
    return table


def step_file(kept: Path, name: str) -> Path:
    return kept / "steps" / f"{re.sub('[/ ]', '-', name)}.json"


def place_adapters(code: Checkout, kept: Path) -> None:
    for method in METHODS:
        target = code.work / "before" / method / "lora_adapter"
        if (kept / method / "lora_adapter").is_dir() and not target.exists():
            shutil.copytree(kept / method / "lora_adapter", target)


def fingerprint(code: Checkout, kept: Path, wanted: tuple[str, ...] = ("",)) -> Iterator[tuple[str, Any]]:
    """Every step's value. The before side's are kept as they come; a step that fails there ends it all.

    Args:
        code: The checkout to run.
        kept: The before side's folder in the cache.
        wanted: The names of the steps to run start with one of these.

    Yields:
        Step and JSON value; ``{"failed": …}`` where this checkout's command failed.

    Raises:
        Failed: A step of the before side failed.
    """
    for name, compute in steps(code, kept).items():
        if not name.startswith(wanted):
            continue
        file = step_file(kept, name)
        if code.name == "before" and file.is_file():
            yield name, json.loads(file.read_text(encoding="utf-8"))
            continue
        place_adapters(code, kept)
        began = time.perf_counter()
        try:
            value = json.loads(json.dumps(compute()))  # as it will be read again
        except Failed as error:
            if code.name == "before":
                raise
            value = {"failed": str(error)}
        print(f"  {code.name} {name}：{time.perf_counter() - began:.0f} 秒", flush=True)
        if code.name == "before":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".new").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            file.with_suffix(".new").replace(file)
        yield name, value


def differences(a: Any, b: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(place, before, after) of every leaf that is not equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from differences(a.get(key, "（没有）"), b.get(key, "（没有）"), f"{at}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{at}/{n}")
    elif (a != b or type(a) is not type(b)) and not (a != a and b != b):  # NaN is not equal to itself
        yield at, a, b


def compare(name: str, before: Any, after: Any) -> dict[str, Any]:
    """Print one line for a step, and its first differences.

    Args:
        name: The step.
        before: Its value in ``before``, of ``fingerprint``.
        after: Its value in this checkout, or what its command failed with.

    Returns:
        Whether they are equal, how many values differ, the largest distance of two numbers, the first five.
    """
    unequal = list(differences(before, after))
    numbers = [abs(a - b) for _, a, b in unequal if {type(a), type(b)} <= {int, float}]
    largest = max(numbers, default=None)
    first = [[place, short(a), short(b)] for place, a, b in unequal[:5]]
    distance = "" if largest is None else f"，数值最多差 {largest:.3g}"
    line = f"不同（{len(unequal)} 处{distance}）" if unequal else "相同"
    print(f"{name}：{line}{figure(after)}", flush=True)
    for place, a, b in first:
        print(f"    {place or '值'}：{a} → {b}", flush=True)
    return {"equal": not unequal, "different": len(unequal), "largest": largest, "first": first}


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:60]}…{text[-29:]}"


def figure(value: Any) -> str:
    """What a reader can hold on to: a run's last loss and accuracy, a number of rows, a hash."""
    if isinstance(value, dict) and "curve" in value:
        losses = [line["loss"] for line in value["curve"] if "loss" in line]
        last = next(files[WEIGHTS] for name, files in value.items() if name.startswith("checkpoint-"))
        both = f"适配器 {value['adapter'][WEIGHTS][:12]}，最后的检查点 {last[:12]}"
        return f"；{len(losses)} 步，损失 {losses[0]:.6f} → {losses[-1]:.6f}，{both}"
    if isinstance(value, list):
        return f"；{len(value)} 行"
    return f"；{value[:12]}" if re.fullmatch(r"[0-9a-f]{64}", str(value)) else ""


# ── speed ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def turn(code: Checkout, adapter: str) -> dict[str, float]:
    """Every figure once."""
    rows, text = SETTINGS["rows"], texts_of(code.work)[0]
    first = code.run(*DOORS["inference"], "--model_path", adapter, "--text", text)
    values = {"first_prediction_s": first.seconds, "first_prediction_peak_mb": first.peak_mb}
    for name, door in DOORS.items():
        values[f"help_s {name}"] = code.run(*door, "--help").seconds
    job = predict(code, adapter, "speed.csv", "speed.parquet")
    (code.work / "speed.parquet").unlink()
    values |= {"job_s": job.seconds, "job_peak_mb": job.peak_mb, "job_reviews_per_s": rows["speed"] / job.seconds}
    training = train(code, "label_scoring", "speed_run", *SETTINGS["speed_train"])
    summary = read_lines(code.work / "speed_run/train_results.json")[-1]
    shutil.rmtree(code.work / "speed_run")
    values |= {"training_s": training.seconds, "training_peak_mb": training.peak_mb,
               "training_reviews_per_s": summary["reviews_per_second"]}  # fmt: skip
    began = time.perf_counter()
    with code.service(adapter) as (ask, peak), ThreadPoolExecutor(rows["clients"]) as clients:
        ask(text)
        values["service_first_answer_s"] = time.perf_counter() - began
        began = time.perf_counter()
        list(clients.map(ask, [text] * rows["requests"]))
        values["service_requests_per_s"] = rows["requests"] / (time.perf_counter() - began)
    return {**values, "service_peak_mb": peak[0]}


def speed(sides: list[Checkout], kept: Path, turns: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides in turns, after one prediction each that fills caches.

    Args:
        sides: Before and after.
        kept: The before side's folder in the cache, which has its adapters.
        turns: How many of each.

    Returns:
        Figure -> both medians and their ratio; figure -> side -> every value.
    """
    adapter = "before/label_scoring/lora_adapter"
    for code in sides:
        place_adapters(code, kept)
        for door in DOORS.values():
            code.run(*door, "--help")
        code.run(*DOORS["inference"], "--model_path", adapter, "--text", "还行")
    all_turns: dict[str, dict[str, list[float]]] = {}
    for number in range(turns):
        for code in sides:
            for name, value in turn(code, adapter).items():
                all_turns.setdefault(name, {side.name: [] for side in sides})[code.name].append(value)
            print(f"  第 {number + 1} 轮 {code.name} 完成", flush=True)
    figures = {}
    for name, values in all_turns.items():
        before, after = (median(values[code.name]) for code in sides)
        figures[name] = {"before": before, "after": after, "ratio": after / before}
        print(f"{name}：{before:.4g} → {after:.4g}，之比 {after / before:.3f}")
    return figures, all_turns


# ── where it comes from ───────────────────────────────────────────────────────────────────────────────────────────


def commit(root: Path) -> str:
    """HEAD of a checkout or worktree, read from its files: no git is needed, no lock taken. "" outside one."""
    git = root / ".git"
    if git.is_file():
        git = root / git.read_text().removeprefix("gitdir:").strip()
    if not (git / "HEAD").is_file():
        return ""
    head = (git / "HEAD").read_text().strip()
    shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
    ref = shared / head.removeprefix("ref: ")
    return ref.read_text().strip() if ref.is_file() else head


def sources_sha256(root: Path) -> str:
    """Of the code itself, committed or not."""
    files = [path for folder in ("zhsenti", "scripts", "evaluation", "data") for path in (root / folder).rglob("*")]
    inside = {path.relative_to(root).as_posix(): path for path in sorted(files) if path.is_file()}
    skipped = re.compile(r"__pycache__/|^evaluation/outputs/")
    return digest("".join(f"{name}\0{sha256(path)}\n" for name, path in inside.items() if not skipped.search(name)))


def machine() -> dict[str, Any]:
    import psutil

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": name, "cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "platform": platform.platform(), "python": platform.python_version()}  # fmt: skip


def check_import(code: Checkout) -> None:
    """Say which package the commands import.

    Raises:
        SystemExit: It is not the checkout's own.
    """
    place = Path(code.run("-c", "import zhsenti; print(zhsenti.__file__)").stdout.strip()).resolve()
    print(f"{code.name}：{place}", flush=True)
    if not place.is_relative_to(code.root):
        raise SystemExit(f"错误：{code.name} 用的不是 {code.root} 的代码")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="与另一份代码比较：结果是否相同，速度是否变了")
    parser.add_argument("--before", type=Path, required=True, help="旧代码的文件夹（如一个 git worktree）")
    parser.add_argument("--after", type=Path, default=ROOT, help="新代码的文件夹（默认这一份）")
    parser.add_argument("--dataset", type=Path, default=ROOT.parent / "shared/data/chnsenticorp",
                        help="有 train、dev、test 三个 TSV 或 CSV 的文件夹")  # fmt: skip
    parser.add_argument("--model", default="embedded", help="embedded、embedded-1.5b 或模型文件夹")
    parser.add_argument("--only", choices=("same", "speed"), help="只比较结果，或只比较速度")
    parser.add_argument("--steps", default="", help="比较哪些步骤：名称的开头，用逗号隔开（默认全部）")
    parser.add_argument("--before-only", action="store_true", help="只算旧代码的结果，存进缓存")
    parser.add_argument("--turns", type=int, default=3, help="速度各测几轮（默认 3）")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/zhsenti-against"), help="旧代码的结果存在哪里")
    parser.add_argument("--json", type=Path, help="结果写入这个文件")
    return parser.parse_args(argv)


def write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    roots = {"before": args.before.resolve(), "after": args.after.resolve()}
    model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model
    origin = {name: {"commit": commit(root), "sources_sha256": sources_sha256(root)} for name, root in roots.items()}
    splits = {name: digest(repr(read_split(args.dataset, name))) for name in SETTINGS["splits"]}
    libraries = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyarrow", "scikit-learn")
    where = {"model": args.model, "dataset_sha256": splits, "settings": SETTINGS, "machine": machine(),
             "versions": {name: version(name) for name in libraries}}  # fmt: skip
    kept = args.cache.expanduser() / digest(json.dumps([origin["before"], where], sort_keys=True))[:16]
    kept.mkdir(parents=True, exist_ok=True)
    provenance = {"date": time.strftime("%Y-%m-%d"), "dataset": args.dataset.name, **origin, **where}
    (kept / "provenance.json").write_text(json.dumps(provenance, ensure_ascii=False, indent=2), encoding="utf-8")
    result: dict[str, Any] = {"provenance": provenance}
    with tempfile.TemporaryDirectory() as folder:
        sides = [Checkout(name, root, Path(folder) / name, model) for name, root in roots.items()]
        for code in sides[:1] if args.before_only else sides:
            code.work.mkdir()
            write_inputs(args.dataset, code.work)
            check_import(code)
        print(f"旧代码的结果存在 {kept}", flush=True)
        wanted = tuple(args.steps.split(","))
        before = dict(fingerprint(sides[0], kept, ("train/",) if args.only == "speed" else ("train/", *wanted)))
        if args.before_only:
            return 0
        if args.only != "speed":
            for name, value in fingerprint(sides[1], kept, wanted):
                same = compare(name, before[name.replace("scores_own", "scores")], value)
                result.setdefault("same", {})[name] = same
                write(args.json, result)
        if args.only != "same":
            result["speed"], result["turns"] = speed(sides, kept, args.turns)
    if provenance["after"]["sources_sha256"] != sources_sha256(roots["after"]):
        print("注意：新代码在比较的时候被改过，前后各步用的不是同一份", flush=True)
    write(args.json, result)
    return int(not all(item["equal"] for item in result.get("same", {}).values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the command it runs and its folder go too
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"错误：{error}")
