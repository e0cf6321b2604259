"""Requests in, batches for the model out: one bounded queue, one worker thread, off the event loop.

A request is admitted (or refused at once) by what it will cost at most, in tokens, before anything is tokenised. Its
ticket stays at its place in the line until it is answered, given up or out of time. A batch is of one model, that of
the oldest waiting text, and takes waiting texts in order of their requests' arrival.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zhsenti.serving.metrics import Metrics
from zhsenti.serving.schema import ServiceError
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    from zhsenti.artifact import Manifest
    from zhsenti.prediction.predictor import Prediction

log = logging.getLogger("zhsenti.serving")
CHARACTERS_READ_PER_TOKEN = 256  # reading a text that will be cut costs time and memory too, though no forward pass
WARM_UP = "房间干净，服务热情，下次还会住。"


class Predictor(Protocol):
    """What is served: a ``SentimentPredictor``, or something with the same surface."""

    task: SentimentTask
    manifest: Manifest | None

    @property
    def method_name(self) -> str:
        """Its method's name, for the list of models."""

    def predict_batch(self, texts: Sequence[str], aspects: Sequence[str] | None = None, /) -> Sequence[Prediction]:
        """One result a text, in order."""


def costs(task: SentimentTask, texts: Sequence[str], aspects: Sequence[str] | None = None) -> list[int]:
    """Tokens that scoring each text takes, at most in all but odd cases, without tokenising it."""
    template, slots = len(task.template), task.template.count("{aspect}")
    pairs = zip(texts, aspects or [""] * len(texts), strict=True)
    lengths = [len(text) + slots * len(aspect) for text, aspect in pairs]
    return [min(template + length, task.max_length) + length // CHARACTERS_READ_PER_TOKEN for length in lengths]


@dataclass
class _Item:
    text: str
    aspect: str | None
    tokens: int
    index: int  # among the texts of its call


class Ticket:
    """One request's place in the line.

    Attributes:
        model: Name of the model that it asks.
        reserved: Tokens that it may still ask for or have computed.
        deadline: When it has waited long enough, on the monotonic clock.
        waiting: Texts that are not computed yet.
        since: When they began to wait.
        results: Of the texts of the last call, None where there is none yet.
        missing: How many there are not yet.
        future: Of the last call.
    """

    def __init__(self, model: str, reserved: int, deadline: float) -> None:
        self.model, self.reserved, self.deadline = model, reserved, deadline
        self.waiting: deque[_Item] = deque()
        self.since = 0.0
        self.results: list[Any] = []
        self.missing = 0
        self.future: Future[list[Prediction]] | None = None

    def fail(self, error: ServiceError) -> None:
        """What has not been answered will not be: its waiter gets ``error``."""
        self.waiting.clear()
        if self.future and not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """The line and its worker. Thread-safe; ``start`` it once.

    Attributes:
        is_warm: Whether every model has answered once.
        failure: Why one of them could not.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        metrics: Metrics,
        *,
        max_requests: int,
        max_tokens: int,
        batch_tokens: int,
        wait_s: float,
        timeout_s: float,
    ) -> None:
        """A line without a worker yet.

        Args:
            predictors: Models by name.
            metrics: Where lengths and times are counted.
            max_requests: How many may be admitted and unanswered.
            max_tokens: How many tokens these may have together.
            batch_tokens: What one batch takes.
            wait_s: How long a text waits for others to fill a batch.
            timeout_s: How long a request may wait in all.
        """
        self.predictors, self.metrics = predictors, metrics
        self.max_requests, self.max_tokens, self.batch_tokens = max_requests, max_tokens, batch_tokens
        self.wait_s, self.timeout_s = wait_s, timeout_s
        self._changed = threading.Condition()
        self._line: dict[Ticket, None] = {}  # in order of arrival
        self._tokens = 0
        self._rate = _Rate()
        self._stopped = False
        self._worker = threading.Thread(target=self._work, name="zhsenti-model", daemon=True)
        self.is_warm = False
        self.failure: Exception | None = None
        metrics.watch_queue(lambda: len(self._line), lambda: self._tokens)

    def start(self) -> None:
        """Warm the models up and go to work, in a thread of its own."""
        self._worker.start()

    def give_up(self) -> None:
        """Whoever still waits gets 503, and nothing more is computed."""
        with self._changed:
            self._stopped = True
            for ticket in list(self._line):
                ticket.fail(ServiceError(503, "draining", "服务正在关闭"))
            self._changed.notify_all()

    def stop(self) -> None:
        """``give_up``; returns when the batch being computed is done."""
        self.give_up()
        if self._worker.is_alive():
            self._worker.join()

    @property
    def waiting(self) -> int:
        """Requests that are admitted and not answered."""
        return len(self._line)

    # ── the requests' side ────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def ticket(self, model: str, tokens: int) -> Iterator[Ticket]:
        """A place in the line for a request of at most ``tokens``; leaving the block gives it up.

        Raises:
            ServiceError: 413 for what the queue may never hold, 429 with Retry-After when it is full or too slow.
        """
        with self._changed:
            self._refuse(tokens)
            ticket = Ticket(model, tokens, time.monotonic() + self.timeout_s)
            self._line[ticket] = None
            self._tokens += tokens
        try:
            yield ticket
        finally:
            with self._changed:
                del self._line[ticket]
                self._tokens -= ticket.reserved
                ticket.reserved = 0
                ticket.fail(ServiceError(499, "client_gone", "客户端已断开"))

    def _refuse(self, tokens: int) -> None:
        if tokens > self.max_tokens:
            raise ServiceError(
                413,
                "too_long",
                f"这个请求约 {tokens:,} 个 token，队列最多 {self.max_tokens:,} 个："
                "分成几个请求，不要 explain，或在服务端加大 --max_queue_tokens",
            )
        wait = self._rate.seconds(self._tokens)
        over = self._tokens + tokens - self.max_tokens
        if len(self._line) >= self.max_requests or over > 0:
            first = next(iter(self._line))
            raise _busy("queue_full", "排队的请求已满，请稍后再试", self._rate.seconds(max(over, first.reserved)))
        if wait > self.timeout_s:
            raise _busy("too_slow", f"预计要等 {wait:.0f} 秒，超过 {self.timeout_s:g} 秒", wait - self.timeout_s)

    def submit(
        self, ticket: Ticket, texts: Sequence[str], aspects: Sequence[str] | None = None
    ) -> Future[list[Prediction]]:
        """Have ``texts`` predicted; one call at a time for a ticket.

        Returns:
            The predictions in order, later; may fail with ServiceError 500 (the model failed), 503 (the service is
            stopping) or 504 (out of time).
        """
        tokens = costs(self.predictors[ticket.model].task, texts, aspects)
        given: Sequence[str | None] = aspects or [None] * len(texts)
        items = [_Item(*row) for row in zip(texts, given, tokens, range(len(texts)), strict=True)]
        future: Future[list[Prediction]] = Future()
        with self._changed:
            ticket.future = future
            future.set_running_or_notify_cancel()  # a waiter that is cancelled leaves it alone: we may be setting it
            ticket.results, ticket.missing = [None] * len(items), len(items)
            if self._stopped or ticket not in self._line:
                ticket.fail(ServiceError(503, "draining", "服务正在关闭"))
                return future
            ticket.since = time.monotonic()
            ticket.waiting.extend(items)
            self._changed.notify_all()
        return future

    # ── the worker's side ─────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        try:
            for predictor in self.predictors.values():
                aspects = ["服务"] if predictor.task.has_aspect else None
                began = time.monotonic()
                predictor.predict_batch([WARM_UP], aspects)
                self._rate.add(sum(costs(predictor.task, [WARM_UP])), time.monotonic() - began)
        except Exception as error:
            self.failure = error
            return
        self.is_warm = True
        while batch := self._next():
            self._compute(batch)

    def _next(self) -> list[tuple[Ticket, _Item]]:
        """The next batch, when it is full or its oldest text has waited long enough. Empty when stopped."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                for ticket in self._line:
                    if ticket.waiting and ticket.deadline < now:
                        ticket.fail(ServiceError(504, "timeout", f"等了 {self.timeout_s:g} 秒还没有轮到"))
                waiting = [ticket for ticket in self._line if ticket.waiting]
                chosen = self._choose(waiting)
                tokens = sum(item.tokens for _, item in chosen)
                if not chosen:
                    self._changed.wait()
                elif tokens < self.batch_tokens and (left := waiting[0].since + self.wait_s - now) > 0:
                    self._changed.wait(left)
                else:
                    for ticket, _ in chosen:
                        ticket.waiting.popleft()
                        self.metrics.queue_wait.observe(now - ticket.since)
                    self.metrics.batch_rows.observe(len(chosen))
                    self.metrics.batch_tokens.observe(tokens)
                    return chosen
        return []

    def _choose(self, waiting: list[Ticket]) -> list[tuple[Ticket, _Item]]:
        chosen: list[tuple[Ticket, _Item]] = []
        room = self.batch_tokens
        for ticket in waiting:
            for item in ticket.waiting if ticket.model == waiting[0].model else ():
                if room <= 0 or (chosen and item.tokens > room):
                    return chosen
                chosen.append((ticket, item))
                room -= item.tokens
        return chosen

    def _compute(self, batch: list[tuple[Ticket, _Item]]) -> None:
        """Predict a batch. Where the model fails, every request is tried by itself: one that cannot be answered takes
        no other one along.
        """
        aspects = [item.aspect for _, item in batch if item.aspect is not None]
        began = time.monotonic()
        model = batch[0][0].model
        try:
            results = self.predictors[model].predict_batch([item.text for _, item in batch], aspects or None)
        except Exception as error:
            tickets = list(dict.fromkeys(ticket for ticket, _ in batch))
            if len(tickets) > 1:
                for one in tickets:
                    self._compute([(ticket, item) for ticket, item in batch if ticket is one])
                return
            log_failure("model_failed", error)
            with self._changed:
                tickets[0].fail(ServiceError(500, "model_failed", "模型算不出这个请求；服务的日志里有原因"))
            return
        seconds = time.monotonic() - began
        self._rate.add(sum(item.tokens for _, item in batch), seconds)
        self.metrics.batch_seconds.observe(seconds)
        for result in results:
            self.metrics.predictions.labels(model, result.label).inc()
        self._deliver(batch, results)

    def _deliver(self, batch: list[tuple[Ticket, _Item]], results: Sequence[Prediction]) -> None:
        with self._changed:
            for (ticket, item), result in zip(batch, results, strict=True):
                if ticket not in self._line or ticket.future is None or ticket.future.done():
                    continue
                done = min(item.tokens, ticket.reserved)
                ticket.reserved -= done
                self._tokens -= done
                ticket.results[item.index] = result
                ticket.missing -= 1
                if not ticket.missing:
                    ticket.future.set_result(ticket.results)


class _Rate:
    """Tokens a second over the last batches, the latest counting most."""

    KEEP = 0.8

    def __init__(self) -> None:
        self.tokens = self.time = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self.tokens = self.KEEP * self.tokens + tokens
        self.time = self.KEEP * self.time + seconds

    def seconds(self, tokens: int) -> float:
        return tokens * self.time / self.tokens if self.tokens else 0.0


def _busy(code: str, message: str, seconds: float) -> ServiceError:
    again = str(min(max(math.ceil(seconds), 1), 3600))
    return ServiceError(429, code, message, headers={"Retry-After": again})


def log_failure(event: str, error: BaseException, **fields: Any) -> None:
    """Log the kind of ``error`` and where it arose, without its words: they may quote a review.

    Args:
        event: What failed, for programs.
        error: Why.
        fields: More for the log line.
    """
    places, step = [], error.__traceback__
    while step:
        places.append(f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}")
        step = step.tb_next
    log.error(event, extra={"fields": {"error": type(error).__name__, "at": places[-8:], **fields}})
