"""Prometheus metrics of one app, in base units; each app has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from zhsenti import __version__

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted and measured."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Histogram(
            "zhsenti_http_request_duration_seconds", "从收到请求头到答完的时间", ["route", "status"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.in_progress = Gauge("zhsenti_http_requests_in_progress", "还没有答完的请求", registry=registry)
        self.rejected = Counter("zhsenti_rejected", "没有收下的请求", ["reason"], registry=registry)
        self.predictions = Counter("zhsenti_predictions", "答出的预测", ["model", "label"], registry=registry)
        self.queue_requests = Gauge("zhsenti_queue_requests", "收下而没有答完的请求", registry=registry)
        self.queue_tokens = Gauge("zhsenti_queue_tokens", "收下而没有算完的 token（估计）", registry=registry)
        self.queue_wait = Histogram(
            "zhsenti_queue_wait_seconds", "一条文本从排队到开始算的时间", buckets=_SECONDS, registry=registry
        )
        self.batch_rows = Histogram(
            "zhsenti_batch_rows", "一批的条数", buckets=[2**n for n in range(11)], registry=registry
        )
        self.batch_tokens = Histogram(
            "zhsenti_batch_tokens", "一批的 token 数（估计）", buckets=[2**n for n in range(5, 18)], registry=registry
        )
        self.batch_seconds = Histogram(
            "zhsenti_batch_duration_seconds", "算一批的时间", buckets=_SECONDS, registry=registry
        )
        Info("zhsenti_build", "版本", registry=registry).info({"version": __version__})

    def watch_queue(self, requests: Callable[[], float], tokens: Callable[[], float]) -> None:
        """Have the queue's length, in requests and in tokens, read whenever the metrics are asked for."""
        self.queue_requests.set_function(requests)
        self.queue_tokens.set_function(tokens)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
