"""A service of fake predictors, in this process or behind a real uvicorn in another one."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.fakes import KeywordPredictor
from tests.paths import ENV, ROOT
from tests.waiting import until
from zhsenti.core.errors import MemoryShortError
from zhsenti.serving.app import Service, create_app
from zhsenti.serving.config import ServeConfig
from zhsenti.serving.limits import Gate

FAILURES = {  # a word of a text -> what the predictor raises
    "爆炸": RuntimeError("坏在秘密的评论里"),
    "放不下": MemoryShortError("内存不足：一条 256 token 的文本也放不下"),
    "显卡掉了": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "线程退出": SystemExit("坏在秘密的评论里"),
}


class SlowPredictor(KeywordPredictor):
    """Takes ``seconds`` a call, or waits for ``gate``; ``seen`` holds every call's texts; fails on words of FAILURES.

    A call must find nothing alive of one that failed: ``failed`` holds weak references to what those had made.
    """

    def __init__(self, seconds: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds, self.seen = seconds, []
        self.failed: list[weakref.ref] = []
        self.gate = threading.Event()
        self.gate.set()

    def predict_batch(self, texts, aspects=None):
        assert not any(ref() for ref in self.failed), "a batch that failed holds its memory"
        self.seen.append(list(texts))
        self.gate.wait(10)
        time.sleep(self.seconds)
        for word, error in FAILURES.items():
            if any(word in text for text in texts):
                tensors = _Tensors()
                self.failed.append(weakref.ref(tensors))
                raise type(error)(*error.args)
        return super().predict_batch(texts, aspects)


class _Tensors:
    """What a pass holds."""


def make_service(models=None, gate: Gate | None = None, batch_tokens: int = 4096, **settings: Any) -> Service:
    config = ServeConfig(**{"batch_wait_ms": 1.0, **settings})
    return create_app(models or {"demo": SlowPredictor()}, config, gate or Gate(None, None, 1 << 20), batch_tokens)


class Running:
    """``service`` with its worker started, called without a network. ``wait`` is for its warm-up."""

    def __init__(self, service: Service) -> None:
        self.service = service
        service.batcher.start()
        self.transport = httpx.ASGITransport(service, raise_app_exceptions=False)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport, base_url="http://test")

    def warm(self) -> Running:
        until(lambda: self.service.batcher.is_warm)
        return self


def error_of(response: httpx.Response) -> dict:
    """The error, after a look at the one schema that all have."""
    body = response.json()
    assert set(body) == {"error", "request_id"}, body
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert not body["error"]["message"].isascii()
    return body["error"]


def ask(service, bodies: list[dict]) -> list[dict]:
    """What the service answers to ``bodies`` that come at once; it stops after them."""

    async def go():
        running = Running(service)
        await asyncio.to_thread(running.warm)
        async with running.client() as client:
            answers = await asyncio.gather(*(client.post("/v1/predict", json=body, timeout=60) for body in bodies))
        service.batcher.stop()
        return [answer.raise_for_status().json()["results"] for answer in answers]

    return asyncio.run(go())


class ThreadServer:
    """A service on a port of its own, in a thread."""

    def __init__(self, port: int = 0, models: dict | None = None, gate: Gate | None = None, **settings: Any) -> None:
        self.predictors = models or {"demo": SlowPredictor()}
        service = self.service = make_service(self.predictors, gate, **settings)
        listener = socket.create_server(("127.0.0.1", port))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(service, http="h11", ws="none", lifespan="on", log_config=None, access_log=False)
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        until(lambda: service.batcher.is_warm)

    def stop(self) -> None:
        for predictor in self.predictors.values():
            predictor.gate.set()
        self.uvicorn.force_exit = self.uvicorn.should_exit = True
        self.thread.join(10)


class ServerProcess:
    """``fake_server.py``: the real command's server around a slow fake. ``log`` is its stderr so far."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.errors = tmp_path / "stderr"
        with self.errors.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.serving.fake_server", json.dumps(options)],
                stdout=subprocess.PIPE, stderr=stream, env=ENV, cwd=ROOT,
            )  # fmt: skip
        try:
            self.port = int(self.process.stdout.readline())
            self.url = f"http://127.0.0.1:{self.port}"
            until(self._is_ready)
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.ConnectError:  # the port is taken before it is listened on
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8")
