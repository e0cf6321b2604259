"""The outermost ASGI layer: request id, security headers, one log line and one metric an exchange, 500 for bugs."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhsenti.serving.log import log, log_failure
from zhsenti.serving.metrics import Metrics
from zhsenti.serving.schema import ServiceError

ROUTES = ("/", "/v1/predict", "/v1/models", "/livez", "/readyz", "/metrics", "/openapi.json")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass
class Exchange:
    """What is known of a request besides its scope.

    Attributes:
        request_id: The client's own, or a new one; it is in the answer and in the log.
        status: Of the answer; 0 before there is one.
        fields: More for its log line.
    """

    request_id: str
    status: int = 0
    fields: dict[str, object] = field(default_factory=dict)


def exchange(scope: Scope) -> Exchange:
    """The request's ``Exchange``, which ``Access`` put into its scope."""
    return scope["zhsenti"]


def header(scope: Scope, name: bytes) -> bytes:
    """The first header called ``name`` (lower case), or b""."""
    return next((value for key, value in scope["headers"] if key == name), b"")


class Access:
    """The layer around all others."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["zhsenti"] = this = Exchange(request_id)
        began = time.monotonic()

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                this.status = message["status"]
                present = {key.lower() for key, _ in message["headers"]}
                marks = {**HEADERS, "x-request-id": request_id}
                extra = [(k.encode(), v.encode()) for k, v in marks.items() if k.encode() not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        self.metrics.in_progress.inc()
        try:
            await self.app(scope, receive, send_marked)
        except Exception as error:
            log_failure("internal_error", error, request_id=request_id)
            if not this.status:
                await send_error(scope, send_marked, ServiceError(500, "internal_error", "服务内部出错"))
        finally:
            self.metrics.in_progress.dec()
            self._note(scope, this, time.monotonic() - began)

    def _note(self, scope: Scope, this: Exchange, seconds: float) -> None:
        path = scope["path"]
        route = path if path in ROUTES else "/static" if path.startswith("/static/") else "unmatched"
        self.metrics.requests.labels(route, str(this.status)).observe(seconds)
        method = scope["method"] if scope["method"] in METHODS else "other"
        fields = {"request_id": this.request_id, "method": method, "route": route, "status": this.status}
        log.info("request", extra={"fields": {**fields, "duration_s": round(seconds, 4), **this.fields}})


async def send_error(scope: Scope, send: Send, error: ServiceError, *, more_body: bool = False) -> None:
    """Send ``error`` as the whole answer.

    Args:
        scope: The request's.
        send: The layer around.
        error: What to say.
        more_body: Leave the answer open: its end is still to be sent.
    """
    body = error.body(exchange(scope).request_id)
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    start = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})
