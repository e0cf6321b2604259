"""Requests in, batches for the model out: one bounded queue, one worker thread, off the event loop.

A batch is of one model, that of the oldest waiting text, and takes waiting texts in order of their requests' arrival.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from zhsenti.core.errors import ModelError
from zhsenti.models.failures import is_device_lost
from zhsenti.serving import failures
from zhsenti.serving.log import log_failure
from zhsenti.serving.metrics import Metrics
from zhsenti.serving.schema import ServiceError
from zhsenti.serving.tickets import Item, Predictor, Rate, Ticket, costs

if TYPE_CHECKING:
    from zhsenti.prediction.predictor import Prediction

WARM_UP = "房间干净，服务热情，下次还会住。"


@dataclass(frozen=True)
class Capacity:
    """What a line holds, and for how long.

    Attributes:
        max_requests: How many requests may be admitted and unanswered.
        max_tokens: How many tokens these may have together.
        batch_tokens: What one batch takes.
        wait_s: How long a text waits for others to fill a batch.
        timeout_s: How long a request may wait in all.
    """

    max_requests: int
    max_tokens: int
    batch_tokens: int
    wait_s: float
    timeout_s: float


class Batcher:
    """The line and its worker. Thread-safe; ``start`` it once.

    Attributes:
        is_warm: Whether every model has answered once, and the worker works.
        failure: Why a model could not, or why the worker has died since; the process has to end then.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        metrics: Metrics,
        capacity: Capacity,
    ) -> None:
        """A line without a worker yet.

        Args:
            predictors: Models by name.
            metrics: Where lengths and times are counted.
            capacity: What the line holds, and for how long.
        """
        self.predictors, self.metrics, self.capacity = predictors, metrics, capacity
        self._changed = threading.Condition()
        self._line: dict[Ticket, None] = {}  # in order of arrival
        self._tokens = 0
        self._rate = Rate()
        self._ending: tuple[str, str] | None = None  # code and words (Chinese) for whoever waits, once it has ended
        self._worker = threading.Thread(target=self._work, name="zhsenti-model", daemon=True)
        self.is_warm = False
        self.failure: ModelError | None = None
        metrics.watch_queue(lambda: len(self._line), lambda: self._tokens)

    def start(self) -> None:
        """Warm the models up and go to work, in a thread of its own."""
        self._worker.start()

    def give_up(self) -> None:
        """Whoever still waits gets 503, and nothing more is computed."""
        self._end("draining", "服务正在关闭")

    def _end(self, code: str, message: str) -> None:
        with self._changed:
            self._ending = self._ending or (code, message)
            for ticket in list(self._line):
                ticket.fail(ServiceError(503, *self._ending))
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
            ticket = Ticket(model, tokens, time.monotonic() + self.capacity.timeout_s)
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
        if tokens > self.capacity.max_tokens:
            raise ServiceError(
                413,
                "too_long",
                f"这个请求约 {tokens:,} 个 token，队列最多 {self.capacity.max_tokens:,} 个："
                "分成几个请求，不要 explain，或在服务端加大 --max_queue_tokens",
            )
        wait = self._rate.seconds(self._tokens)
        over = self._tokens + tokens - self.capacity.max_tokens
        if len(self._line) >= self.capacity.max_requests or over > 0:
            first = next(iter(self._line))
            raise _busy("queue_full", "排队的请求已满，请稍后再试", self._rate.seconds(max(over, first.reserved)))
        timeout_s = self.capacity.timeout_s
        if wait > timeout_s:
            raise _busy("too_slow", f"预计要等 {wait:.0f} 秒，超过 {timeout_s:g} 秒", wait - timeout_s)

    def submit(
        self, ticket: Ticket, texts: Sequence[str], aspects: Sequence[str] | None = None
    ) -> Future[list[Prediction]]:
        """Have ``texts`` predicted; one call at a time for a ticket.

        Returns:
            The predictions in order, later; may fail with ServiceError 500 (the model failed), 503 (the service is
            stopping, or short of memory) or 504 (out of time).
        """
        tokens = costs(self.predictors[ticket.model].task, texts, aspects)
        given: Sequence[str | None] = aspects or [None] * len(texts)
        items = [Item(*row) for row in zip(texts, given, tokens, range(len(texts)), strict=True)]
        future: Future[list[Prediction]] = Future()
        with self._changed:
            ticket.future = future
            future.set_running_or_notify_cancel()  # a waiter that is cancelled leaves it alone: we may be setting it
            ticket.results, ticket.missing = [None] * len(items), len(items)
            if self._ending or ticket not in self._line:
                ticket.fail(ServiceError(503, *(self._ending or ("draining", "服务正在关闭"))))
                return future
            ticket.since = time.monotonic()
            ticket.waiting.extend(items)
            self._changed.notify_all()
        return future

    # ── the worker's side ─────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        """Whatever ends this thread is seen: nobody waits for a worker that has died, and the process ends."""
        try:
            self._warm_up()
            self.is_warm = True
            while batch := self._next():
                self._compute(batch)
        except BaseException as error:
            self.failure = failures.of_worker(error) if self.is_warm else failures.of_warm_up(error)
            self.is_warm = False
            self._end(*failures.STOPPED)
            log_failure("worker_died", error)

    def _warm_up(self) -> None:
        for predictor in self.predictors.values():
            aspects = ["服务"] if predictor.task.has_aspect else None
            began = time.monotonic()
            predictor.predict_batch([WARM_UP], aspects)
            self._rate.add(sum(costs(predictor.task, [WARM_UP])), time.monotonic() - began)

    def _next(self) -> list[tuple[Ticket, Item]]:
        """The next batch, when it is full or its oldest text has waited long enough. Empty when stopped."""
        capacity = self.capacity
        with self._changed:
            while not self._ending:
                now = time.monotonic()
                for ticket in self._line:
                    if ticket.waiting and ticket.deadline < now:
                        ticket.fail(ServiceError(504, "timeout", f"等了 {capacity.timeout_s:g} 秒还没有轮到"))
                waiting = [ticket for ticket in self._line if ticket.waiting]
                chosen = self._choose(waiting)
                tokens = sum(item.tokens for _, item in chosen)
                if not chosen:
                    self._changed.wait()
                elif tokens < capacity.batch_tokens and (left := waiting[0].since + capacity.wait_s - now) > 0:
                    self._changed.wait(left)
                else:
                    for ticket, _ in chosen:
                        ticket.waiting.popleft()
                        self.metrics.queue_wait.observe(now - ticket.since)
                    self.metrics.batch_rows.observe(len(chosen))
                    self.metrics.batch_tokens.observe(tokens)
                    return chosen
        return []

    def _choose(self, waiting: list[Ticket]) -> list[tuple[Ticket, Item]]:
        chosen: list[tuple[Ticket, Item]] = []
        room = self.capacity.batch_tokens
        for ticket in waiting:
            for item in ticket.waiting if ticket.model == waiting[0].model else ():
                if room <= 0 or (chosen and item.tokens > room):
                    return chosen
                chosen.append((ticket, item))
                room -= item.tokens
        return chosen

    def _compute(self, batch: list[tuple[Ticket, Item]]) -> None:
        """Predict a batch. Where the model fails, every request is tried by itself: one that cannot be answered takes
        no other one along.

        Raises:
            DeviceLostError, RuntimeError: The GPU is lost: no request could be answered any more.
        """
        aspects = [item.aspect for _, item in batch if item.aspect is not None]
        began = time.monotonic()
        model = batch[0][0].model
        tickets = list(dict.fromkeys(ticket for ticket, _ in batch))
        results: Sequence[Prediction] | None = None
        try:
            results = self.predictors[model].predict_batch([item.text for _, item in batch], aspects or None)
        except Exception as error:
            if is_device_lost(error):
                raise
            if len(tickets) == 1:
                log_failure("model_failed", error)
                with self._changed:
                    tickets[0].fail(failures.to_request(error))
        if results is None:
            if len(tickets) > 1:  # not inside except: the error may hold the memory of the pass that failed
                for one in tickets:
                    self._compute([(ticket, item) for ticket, item in batch if ticket is one])
            return
        seconds = time.monotonic() - began
        self._rate.add(sum(item.tokens for _, item in batch), seconds)
        self.metrics.batch_seconds.observe(seconds)
        for result in results:
            self.metrics.predictions.labels(model, result.label).inc()
        self._deliver(batch, results)

    def _deliver(self, batch: list[tuple[Ticket, Item]], results: Sequence[Prediction]) -> None:
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
                    ticket.future.set_result(cast("list[Prediction]", ticket.results))


def _busy(code: str, message: str, seconds: float) -> ServiceError:
    again = str(min(max(math.ceil(seconds), 1), 3600))
    return ServiceError(429, code, message, headers={"Retry-After": again})
