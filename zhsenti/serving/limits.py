"""Who is let in, and how much they may send: host, key, drain, size and pace of the body. Pure ASGI, before the app."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhsenti.serving.access import exchange, header, send_error
from zhsenti.serving.metrics import Metrics
from zhsenti.serving.schema import ServiceError

BODY_SECONDS = 30.0  # a body that takes longer is a slow-loris, or a line too bad to serve
LINGER_SECONDS = 1.0  # how long a refused body is still read, so that its sender gets to read the answer
LINGER_BYTES = 16 << 20
BODIES_AT_ONCE = 64  # of full size: what bodies that are still arriving may hold in memory together
OPEN_PATHS = ("/", "/livez", "/readyz")  # and /static/: without a key
PREDICT = "/v1/predict"
PROBES = ("/livez", "/readyz", "/metrics")  # answered while draining


@dataclass(frozen=True)
class Gate:
    """Who gets in.

    Attributes:
        hosts: Names allowed in the Host header, lower case, without port; None for any.
        key: What a client must show; None where nothing is needed.
        max_body: The largest body of a request, in bytes.
    """

    hosts: frozenset[str] | None
    key: bytes | None
    max_body: int


class Limits:
    """The layer that refuses.

    Attributes:
        draining: Set by the server when it was asked to stop: what comes then is refused.
        accepted: Requests for predictions without an answer; their bodies may still be arriving.
    """

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics) -> None:
        self.app, self.gate, self.metrics = app, gate, metrics
        self.draining = False
        self.accepted = 0
        self._arriving = 0  # bytes of bodies being read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counts = scope["path"] == PREDICT and not self.draining
        self.accepted += counts
        try:
            await self._let_in(scope, receive, send)
        finally:
            self.accepted -= counts

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_body = bool(header(scope, b"transfer-encoding")) or header(scope, b"content-length") not in (b"", b"0")
        body = b""
        try:
            self._check_sender(scope)
            if has_body and (scope["method"], scope["path"]) != ("POST", PREDICT):
                send = _closing(send)  # nobody asked for a body here: it is not read, whoever sends it
            elif has_body:
                body = await self._read(scope, receive)
        except _Gone:
            exchange(scope).status = 499  # for the log: nobody is there to be told
            return
        except ServiceError as error:
            self.metrics.rejected.labels(error.code).inc()
            await _refuse(scope, receive, send, error, unread=has_body)
            return
        if has_body:
            receive = _again(body, receive)
        await self.app(scope, receive, send)

    def _check_sender(self, scope: Scope) -> None:
        path = scope["path"]
        if self.gate.hosts is not None and host_name(header(scope, b"host")) not in self.gate.hosts:
            raise ServiceError(403, "host_not_allowed", "Host 请求头不在允许之列：服务端用 --allowed_hosts 加上它")
        if self.gate.key is None and not _is_here(scope.get("client")):
            # Where another program listens (Ray Serve), the declared host need not be the real one.
            raise ServiceError(403, "key_needed", "没有设 API key 的服务只回答本机：服务端用 --api_key_file 设一个")
        is_open = path in OPEN_PATHS or path.startswith("/static/")
        if self.gate.key is not None and not is_open and not self._has_key(scope, self.gate.key):
            raise ServiceError(
                401,
                "unauthorized",
                "需要 API key：请求头 Authorization: Bearer KEY 或 X-API-Key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self.draining and path not in PROBES:
            raise ServiceError(503, "draining", "服务正在关闭", headers={"Connection": "close"})

    def _has_key(self, scope: Scope, key: bytes) -> bool:
        scheme, _, bearer = header(scope, b"authorization").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else header(scope, b"x-api-key")
        return hmac.compare_digest(given, key)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            ServiceError: While it is still arriving: 413 (too large), 408 (too slow), 429 (too many bodies at once).
        """
        too_large = ServiceError(
            413, "body_too_large", f"请求体超过 {self.gate.max_body >> 10} KB", headers={"Connection": "close"}
        )
        declared = header(scope, b"content-length")
        if declared.isdigit() and int(declared[:20]) > self.gate.max_body:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self._arriving += len(part)
                    if size > self.gate.max_body:
                        raise too_large
                    if self._arriving > BODIES_AT_ONCE * self.gate.max_body:
                        again = {"Connection": "close", "Retry-After": "1"}
                        raise ServiceError(429, "too_many_bodies", "同时到来的请求体太多，请稍后再试", headers=again)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            late = f"请求体 {BODY_SECONDS:g} 秒还没有发完"
            raise ServiceError(408, "body_too_slow", late, headers={"Connection": "close"}) from None
        finally:
            self._arriving -= size


class _Gone(Exception):
    """The client went away before it had sent everything."""


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives ``body`` first."""
    waiting = [body]

    async def receive_again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again


def _closing(send: Send) -> Send:
    """``send`` that has the connection closed after the answer."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        await send(message)

    return send_and_close


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ServiceError, *, unread: bool) -> None:
    """Answer, and close the connection when a body is left unread on it.

    Closing a socket with unread bytes resets it, and the sender may never see why: the rest is read for a moment.
    """
    expects = header(scope, b"expect") != b""  # nothing is sent before we ask for it
    if not unread or expects:
        if unread:
            error.headers["Connection"] = "close"
        await send_error(scope, send, error)
        return
    error.headers["Connection"] = "close"
    await send_error(scope, send, error, more_body=True)
    size = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while size < LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


def _is_here(client: tuple[str, int] | None) -> bool:
    """Whether the peer is on this machine; a socket without an address is."""
    if not client or not client[0]:
        return True
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_name(host: bytes) -> str:
    """The name in a Host header, without its port; "[::1]" keeps its brackets."""
    name = host.decode("latin-1").strip().lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
