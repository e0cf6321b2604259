"""uvicorn around the service: it drains when it is asked to stop, and closes connections that say nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from zhsenti.serving.app import Service
from zhsenti.serving.config import ServeConfig
from zhsenti.serving.log import log, log_as_json

KEEP_ALIVE_S = 15
HEAD_S = 30.0  # a request's head that takes longer is a slow-loris: the connection is closed
LAST_WORDS_S = 5  # seconds for answers still being sent when draining ends
QUIET_S = 0.3  # seconds without any waiting request before we stop


def run(service: Service, config: ServeConfig, listener: socket.socket) -> int:
    """Serve until SIGTERM or Ctrl-C; a second signal ends the process at once.

    Args:
        service: What answers.
        config: How long to drain.
        listener: A bound socket.

    Returns:
        0 when all that was accepted has been answered, 1 when time ran out.

    Raises:
        ModelError: A model fails its warm-up, or the worker has died; those who waited have been told.
    """
    log_as_json()
    settings = uvicorn.Config(
        service,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_WORDS_S,
    )
    server = _Server(settings, service, config.drain_s)
    server.run(sockets=[listener])
    if service.batcher.failure:
        raise service.batcher.failure
    log.info("stopped", extra={"fields": {"lost": server.lost}})
    return 1 if server.lost else 0


class _Protocol(H11Protocol):
    """uvicorn waits for ever for the head of a request; bodies have their limit in ``limits``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEAD_S, self._check, None)

    def _check(self, answered: Any) -> None:
        if self.conn.their_state is h11.IDLE and self.cycle is answered:  # no new request since the last look
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(HEAD_S, self._check, self.cycle)


class _Server(uvicorn.Server):
    """Keeps listening while it drains, so that whoever asks is told 503 and not that nobody is there.

    Attributes:
        lost: Requests without an answer when time ran out.
    """

    def __init__(self, settings: uvicorn.Config, service: Service, drain_s: float) -> None:
        super().__init__(settings)
        self.lost = 0
        self._service, self._drain_s = service, drain_s
        self._stopping = 0.0  # when the first signal came, on the monotonic clock
        self._quiet = 0.0  # when somebody was last seen waiting
        self._said = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + sig)
        self._stopping = self._quiet = time.monotonic()
        self._service.limits.draining = True  # no log line from within a signal: it might cut one in two

    async def on_tick(self, counter: int) -> bool:
        now, accepted, batcher = time.monotonic(), self._service.limits.accepted, self._service.batcher
        if accepted:
            self._quiet = now
        if self._stopping and now - self._stopping > self._drain_s:
            self.lost = accepted
            batcher.give_up()
        if self._stopping and not self._said:
            self._said = True
            log.info("draining", extra={"fields": {"requests": accepted}})
        done = self._stopping and now - self._quiet > QUIET_S
        return bool(await super().on_tick(counter) or batcher.failure or done or self.lost)
