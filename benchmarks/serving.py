"""``zhsenti serve`` as users run it, under 1 to 256 clients and under ten times what it can do, on loopback.

    python benchmarks/serving.py --model embedded --dataset ChnSentiCorp --json docs/results/serving.json

Closed loop: every client sends one review, waits for its answer and sends the next; a 429 is asked again after its
Retry-After, and counted. The saturated levels (64 clients or more) go once through the rows, in turns with
``predict_batch`` of the same rows in a process of its own: ``serving_share_of_batch`` is their reviews a second over
those of the core. Overload: an open loop at ten times the best rate, whatever comes back. ``overload_lost`` counts
requests that were neither refused (429) nor answered with 200; peak memory is compared with that of the saturated
levels before. ``--adapter`` serves a trained adapter in place of a fresh one, which computes the same amount.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import arguments, fresh_adapter, load_splits, report

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample

SATURATED = 64  # clients
OVERLOAD = 10
MOST_PER_S = 400  # requests: what this client sends without being the slow one
START_S = 300


# ── the processes that are measured ───────────────────────────────────────────────────────────────────────────────


def core(pipe: Any, adapter: str, model: str, texts: list[str]) -> None:
    """Seconds of ``predict_batch`` of all texts, for every message."""
    from zhsenti.prediction.predictor import SentimentPredictor

    predictor = SentimentPredictor.from_folder(adapter, model_name=model)
    predictor.predict_batch(texts[:8])  # warm-up
    pipe.send("ready")
    while pipe.recv():
        began = time.perf_counter()
        predictor.predict_batch(texts)
        pipe.send(time.perf_counter() - began)


@contextmanager
def core_process(adapter: str, model: str, texts: list[str]) -> Iterator[Any]:
    """A function that gives the core's reviews a second."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=core, args=(there, adapter, model, texts))
    process.start()

    def rate() -> float:
        here.send(True)
        return len(texts) / here.recv()

    try:
        here.recv()
        yield rate
        here.send(False)
        process.join()
    finally:
        process.kill()


@contextmanager
def server(adapter: str, model: str, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """(port, process) of the real command, ready."""
    command = [sys.executable, "-m", "zhsenti", "serve", "--model_path", adapter, "--model_name", model, "--port", "0"]
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream)
    try:
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text(encoding="utf-8"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"服务没有起来：\n{log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.1)
        port = int(found[1])
        while asyncio.run(ask(port, "GET /readyz", ""))[0] != 200:
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
        process.terminate()
        if process.wait(120) != 0:
            raise SystemExit("服务收到 SIGTERM 后没有正常结束")
    finally:
        process.kill()
        process.wait()


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def ask(port: int, what: str, body: str) -> tuple[int, float]:
    """(status, Retry-After or 0) of one request on a connection of its own; status 0 when none came back."""
    data = body.encode()
    head = f"{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = await reader.read(-1)
        writer.close()
    except OSError:
        return 0, 0.0
    status = re.match(rb"HTTP/1.1 (\d+)", answer)
    again = re.search(rb"retry-after: (\d+)", answer)
    return (int(status[1]) if status else 0), float(again[1]) if again else 0.0


def predict(port: int, text: str) -> Any:
    return ask(port, "POST /v1/predict", json.dumps({"text": text}))


async def closed_loop(port: int, texts: Iterator[str], clients: int, seconds: float) -> dict[str, Any]:
    """Until ``texts`` are used up or ``seconds`` are over. Latencies are those of answers, without waits after 429."""
    latencies, statuses = [], Counter[int]()
    began = time.perf_counter()

    async def client() -> None:
        for text in texts:
            status = 429
            while status == 429:
                sent = time.perf_counter()
                status, again = await predict(port, text)
                statuses[status] += 1
                if status == 429:
                    await asyncio.sleep(again)
            latencies.append(time.perf_counter() - sent)
            if time.perf_counter() - began > seconds:
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.perf_counter() - began
    p50, p95, p99 = (float(value) * 1000 for value in np.percentile(latencies, (50, 95, 99)))
    rate = len(latencies) / spent
    return {"clients": clients, "requests": len(latencies), "requests_per_s": rate, "reviews_per_s": rate,
            "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "statuses": dict(statuses)}  # fmt: skip


async def open_loop(port: int, texts: Iterator[str], per_s: float, seconds: float) -> dict[str, Any]:
    """``per_s`` requests a second, whether answered or not."""
    began, sent = time.perf_counter(), []
    while (now := time.perf_counter() - began) < seconds:
        while len(sent) < now * per_s:
            sent.append(asyncio.create_task(predict(port, next(texts))))
        await asyncio.sleep(0.005)
    statuses = Counter(status for status, _ in await asyncio.gather(*sent))
    return {"requests": len(sent), "requests_per_s": per_s, "statuses": dict(statuses),
            "lost": len(sent) - statuses[200] - statuses[429]}  # fmt: skip


async def watched(process: psutil.Process, work: Any) -> tuple[Any, np.ndarray]:
    """(what ``work`` gives, the process's peak memory meanwhile in MB: resident, and that without mapped files).

    The weights are mapped: a system that takes idle pages back and reads them again moves the first figure by itself.
    """
    peak, job = np.zeros(2), asyncio.ensure_future(work)
    while not job.done():
        memory = process.memory_info()
        peak = np.maximum(peak, np.array([memory.rss, memory.rss - getattr(memory, "shared", 0)]) / 1e6)
        await asyncio.wait((job,), timeout=0.1)
    return await job, peak


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--adapter", help="训练得到的 lora_adapter 文件夹（默认现做一个没有训练过的）")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64, 256], help="同时几个客户端")
    parser.add_argument("--seconds", type=float, default=60.0, help="64 个客户端以下时，每档最多几秒")
    parser.add_argument("--overload_seconds", type=float, default=60.0, help="过载几秒")
    parser.add_argument("--max_chars", type=int, default=1000, help="只用不超过几个字的评论（慢的机器上省时间）")
    own, rest = parser.parse_known_args(argv)
    args = arguments("服务：延迟、吞吐、过载", 480, rest)
    splits = load_splits(args.dataset)
    rows = sample(
        [row for row in [*splits.test, *splits.dev, *splits.train] if len(row.text) <= own.max_chars], args.limit, 42
    )
    texts = [row.text for row in rows]
    levels, cores, peak = [], [], np.zeros(2)
    with tempfile.TemporaryDirectory() as folder:
        adapter = own.adapter or fresh_adapter(args.model, Path(folder))
        with core_process(adapter, args.model, texts) as core_rate, server(adapter, args.model, Path(folder)) as served:
            port, process = served
            for clients in own.clients:
                saturated = clients >= SATURATED
                seconds = float("inf") if saturated else own.seconds
                if saturated:
                    cores.append(core_rate())
                level, high = asyncio.run(watched(process, closed_loop(port, iter(texts), clients, seconds)))
                levels.append(level)
                peak = np.maximum(peak, high)
                print(
                    f"  {clients:4} 个客户端：{level['reviews_per_s']:.2f} 条/秒，p50 {level['p50_ms']:.0f} ms",
                    flush=True,
                )
            cores.append(core_rate())
            best = max(level["reviews_per_s"] for level in levels)
            per_s = min(OVERLOAD * best, MOST_PER_S)
            overload, high = asyncio.run(watched(process, open_loop(port, cycle(texts), per_s, own.overload_seconds)))
            print(f"  过载 {per_s:.1f} 请求/秒：{overload['statuses']}", flush=True)
            later = asyncio.run(closed_loop(port, iter(texts), 1, own.seconds))

    by_clients = {level["clients"]: level for level in levels}
    full = [level["reviews_per_s"] for level in levels if level["clients"] >= SATURATED]
    # A machine's speed drifts: each level is held against the core just before and just after it.
    shares = [rate / np.mean(around) for rate, around in zip(full, pairwise(cores), strict=True)]
    figures = {
        "core_reviews_per_s": float(np.mean(cores)),
        "served_reviews_per_s": float(np.mean(full)),
        "overload_requests": overload["requests"],
        "overload_refused": overload["statuses"].get(429, 0),
        "p50_at_1_after_overload": later["p50_ms"] / by_clients[1]["p50_ms"],
        "overload_peak_unmapped_growth_mb": float(high[1] - peak[1]),
        "serving_share_of_batch": float(np.mean(shares)),
        "overload_lost": overload["lost"],
        "overload_peak_rss_growth_mb": float(high[0] - peak[0]),
        "p99_ms_at_8": by_clients[8]["p99_ms"],
    }
    details = {"levels": levels, "cores_reviews_per_s": cores, "shares_of_batch": shares, "overload": overload,
               "after": later, "peak_rss_mb": {"before": peak.tolist(), "overload": high.tolist()},
               "trained_adapter": bool(own.adapter)}  # fmt: skip
    report("serving", args, figures, rows, details, f" --max_chars {own.max_chars}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
