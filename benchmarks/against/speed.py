"""Whole processes of both sides in turns."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from checkout import DOORS, SETTINGS, Checkout, predict, train
from inputs import texts_of
from results import read_lines
from steps import place_adapters


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
