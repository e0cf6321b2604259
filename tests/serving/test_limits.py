"""A body that arrives too slowly, and bodies that would fill the memory together."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.serving.running import make_service
from zhsenti.serving import limits
from zhsenti.serving.limits import Gate, host_name


async def exchange(service, messages, pause: float = 0.0) -> tuple[int, dict, dict]:
    """(status, headers, body) for a chunked body of ``messages``, after which the client says nothing more."""
    waiting, sent = list(messages), []

    async def receive():
        await asyncio.sleep(pause)
        if not waiting:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": waiting.pop(0), "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers}
    await service(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(body)


def test_a_body_that_never_ends_is_408(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.05)
    status, headers, body = asyncio.run(exchange(make_service(), [b"{"] * 5, pause=0.03))
    assert (status, body["error"]["code"], headers[b"connection"]) == (408, "body_too_slow", b"close")


def test_bodies_that_arrive_at_once_are_bounded_together(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(limits, "BODIES_AT_ONCE", 3)
    service = make_service(gate=Gate(None, None, 1000))

    async def go():
        return await asyncio.gather(*(exchange(service, [b"x" * 900]) for _ in range(5)))

    answers = asyncio.run(go())
    assert sorted(status for status, _, _ in answers) == [408, 408, 408, 429, 429]
    assert all(headers[b"retry-after"] == b"1" for status, headers, _ in answers if status == 429)
    assert service.limits._arriving == 0


def test_names_in_host_headers():
    for host, name in ((b"LocalHost:80", "localhost"), (b"[::1]:8000", "[::1]"), (b"[::1", "[::1]"), (b"", ""),
                       (b"127.0.0.1.evil.example", "127.0.0.1.evil.example"), (b"a:b:c", "a")):  # fmt: skip
        assert host_name(host) == name


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("POST", "/livez", 405),
        ("GET", "/static/app.js", 200),
        ("PUT", "/v1/predict", 405),
        ("POST", "/nothing", 404),
    ],
)
def test_a_body_nobody_asked_for_is_not_read(method, path, status):
    """64 of them, sent without a key to open paths, once filled what correctly keyed requests may hold together."""
    service = make_service(gate=Gate(None, b"key", 1000))
    read = []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": b"x" * 900, "more_body": True}

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked"), (b"x-api-key", b"key")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    asyncio.run(service(scope, receive, send))
    assert sent[0]["status"] == status
    assert (b"connection", b"close") in sent[0]["headers"]
    assert (len(read), service.limits._arriving) == (0, 0)


@pytest.mark.hostile
def test_a_body_without_the_key_is_not_read():
    service = make_service(gate=Gate(None, b"key", 1000))
    status, _, body = asyncio.run(exchange(service, [b"x" * 900]))
    assert (status, body["error"]["code"], service.limits._arriving) == (401, "unauthorized", 0)


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("key", "client", "status"),
    [
        (None, ("127.0.0.1", 5000), 200),
        (None, ("::1", 5000), 200),
        (None, ("::ffff:127.0.0.1", 5000), 200),
        (None, None, 200),
        (None, ("192.0.2.7", 5000), 403),
        (None, ("::ffff:192.0.2.7", 5000), 403),
        (None, ("name", 5000), 403),
        (b"key", ("192.0.2.7", 5000), 200),
    ],
)
def test_without_a_key_only_this_machine_is_answered(key, client, status):
    """Under Ray Serve another address may be open than the one that was declared."""
    service, sent = make_service(gate=Gate(None, key, 1000)), []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"x-api-key", b"key")]
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers, "client": client,
             "query_string": b"", "root_path": ""}  # fmt: skip
    asyncio.run(service(scope, receive, send))
    assert sent[0]["status"] == status
