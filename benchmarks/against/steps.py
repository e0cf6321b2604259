"""Everything whose result is compared, a step a command or two, and the cache that keeps the before side's."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkout import DOORS, METHODS, SETTINGS, Checkout, Failed, predict, train
from inputs import texts_of, write_csv
from results import WEIGHTS, checkpoints, contents, read_lines, sha256, trained


def resume(code: Checkout, method: str, kept: Path) -> dict[str, Any]:
    """``before``'s run, cut after its first checkpoint, goes on in this code."""
    folder = code.work / "half" / method
    shutil.copytree(kept / method, folder)
    for path in [folder / "lora_adapter", *checkpoints(folder)[1:]]:
        shutil.rmtree(path)
    train(code, method, f"half/{method}", *SETTINGS["same_train"], "--resume_from_checkpoint", "auto")
    ends = {sha256(checkpoints(run)[-1] / WEIGHTS) for run in (folder, kept / method)}
    return {**trained(folder), "as_uninterrupted": len(ends) == 1}


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
        if code.name != "before":  # there scores/ takes its own adapter already
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


def with_needed(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Beginnings of step names, and before them those of the steps that these build on."""
    own_scores = any("scores_own/".startswith(start) or start.startswith("scores_own") for start in wanted)
    scores = own_scores or any("export".startswith(start) for start in wanted)
    return (*(("train/",) if own_scores else ()), *(("scores/",) if scores else ()), *wanted)


def step_file(kept: Path, name: str) -> Path:
    return kept / "steps" / f"{re.sub('[/ ]', '-', name)}.json"


def place_adapters(code: Checkout, kept: Path) -> None:
    for method in METHODS:
        target = code.work / "before" / method / "lora_adapter"
        if (kept / method / "lora_adapter").is_dir() and not target.exists():
            shutil.copytree(kept / method / "lora_adapter", target)


def fingerprint(code: Checkout, kept: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
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
