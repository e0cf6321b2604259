"""``zhsenti serve``: settings checked, port taken, models loaded, then uvicorn until it is asked to stop."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import ConfigError, ModelError, first_line
from zhsenti.core.flags import parse
from zhsenti.core.paths import user_path
from zhsenti.serving.config import ServeConfig

if TYPE_CHECKING:
    from zhsenti.serving.app import Service
    from zhsenti.serving.limits import Gate

KEY_VARIABLE = "ZHSENTI_API_KEY"
KEY_CHARACTERS = 16
KEEP_ALIVE_S = 15
HEAD_S = 30.0  # a request's head that takes longer is a slow-loris: the connection is closed
LAST_WORDS_S = 5  # for answers that are being sent when all is decided
QUIET_S = 0.3  # nobody has been waiting for so long: what was on its way when the signal came has been answered


def main(argv: list[str] | None = None) -> int:
    config, _ = parse(ServeConfig, argv, "HTTP 服务：POST /v1/predict，网页在 /")
    gate = make_gate(config, os.environ.get(KEY_VARIABLE))
    listener = bind(config.host, config.port)
    with listener:
        service = load_service(config, gate)
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _say(f"地址 {address}   网页 {address}/   接口 {address}/openapi.json")
        _say("API key：要" if gate.key else "API key：不要（只在本机能访问）")
        return run(service, config, listener)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def make_gate(config: ServeConfig, variable: str | None) -> Gate:
    """Raises ConfigError when others could reach the service without a key, or the key is none."""
    from zhsenti.serving.limits import Gate, host_name

    key = _read_key(config.api_key_file, variable)
    loopback = is_loopback(config.host)
    if key is None and not loopback:
        raise ConfigError(
            f"在 {config.host} 上监听，别的机器也能访问，必须有 API key",
            todo=f"用 --api_key_file 或环境变量 {KEY_VARIABLE} 给出，或去掉 --host（只在本机能访问）。",
        )
    named = {host_name(name.encode()) for name in config.allowed_hosts.split(",") if name.strip()}
    # A web page can have its own name resolve to 127.0.0.1; it cannot change the Host header (DNS rebinding).
    own = {"localhost", "127.0.0.1", "[::1]", host_name(config.host.encode())} if loopback else set()
    return Gate(frozenset(named | own) if named or own else None, key, config.max_body_kb << 10)


def _read_key(path: str | None, variable: str | None) -> bytes | None:
    if path is None and variable is None:
        return None
    where = f"环境变量 {KEY_VARIABLE}" if path is None else path
    try:
        key = os.fsencode(variable or "") if path is None else user_path(path).read_bytes()[:4097]
    except OSError as error:
        raise ConfigError(f"读不了 --api_key_file {path}", found=error.strerror or str(error)) from error
    key = key.strip()
    if not KEY_CHARACTERS <= len(key) <= 4096 or not all(33 <= byte < 127 for byte in key):
        raise ConfigError(
            f"{where} 里的 API key 不能用",
            expected=f"至少 {KEY_CHARACTERS} 个 ASCII 字符，没有空格",
            found=f"{len(key)} 个字节" if len(key) < KEY_CHARACTERS else "太长，或有别的字符",
            todo="比如：openssl rand -hex 32 > key.txt",
        )
    return key


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name may stand for any address


def bind(host: str, port: int) -> socket.socket:
    """The socket, before models are loaded for nothing. Raises ConfigError when the address cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"不能在 {host} 的端口 {port} 上监听",
            found=getattr(error, "strerror", None) or first_line(error),
            todo="换一个 --port（0 为任选一个空的），或停掉占着它的程序。",
        ) from error
    return listener


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────────────


def model_names(paths: list[str]) -> list[str]:
    """The folder's name, or its parent's when it is called lora_adapter; doubles get -2, -3 …"""
    names: list[str] = []
    for path in paths:
        folder = user_path(path).resolve()
        plain = name = (folder.parent if folder.name == "lora_adapter" else folder).name or "model"
        number = 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def load_service(config: ServeConfig, gate: Gate) -> Service:
    """Raises ArtifactError, ModelError, ConfigError for an adapter that cannot be served."""
    from zhsenti.artifact import open_artifact

    for path in config.model_path:
        open_artifact(path)  # a wrong path fails at once, before torch is imported
    from zhsenti.prediction.predictor import BATCH_TOKENS, SentimentPredictor, pick_device
    from zhsenti.serving.app import PASSES, create_app

    models: dict[str, Any] = {}
    for name, path in zip(model_names(config.model_path), config.model_path, strict=True):
        models[name] = SentimentPredictor.from_folder(
            Path(user_path(path)), model_name=config.model_name, precision=config.precision
        )
        _say(f"模型 {name}：{path}")
    batch_tokens = config.batch_tokens or PASSES * BATCH_TOKENS[pick_device().type]
    return create_app(models, config, gate, batch_tokens)


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────


def run(service: Service, config: ServeConfig, listener: socket.socket) -> int:
    """Serve until SIGTERM or Ctrl-C. 0 when all that was accepted has been answered, 1 when time ran out.

    A second signal ends the process at once. Raises ModelError when a model fails its warm-up.
    """
    import h11
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from zhsenti.serving.access import log, log_as_json

    class Protocol(H11Protocol):
        """uvicorn waits for ever for the head of a request; bodies have their limit in ``limits``."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(HEAD_S, self._check, None)

        def _check(self, answered: Any) -> None:
            if self.conn.their_state is h11.IDLE and self.cycle is answered:  # no new request since the last look
                self.transport.close()
            elif not self.transport.is_closing():
                self.loop.call_later(HEAD_S, self._check, self.cycle)

    class Server(uvicorn.Server):
        """Keeps listening while it drains, so that whoever asks is told 503 and not that nobody is there."""

        stopping = 0.0
        quiet = 0.0
        lost = 0
        said = False

        def handle_exit(self, sig: int, frame: Any) -> None:
            if self.stopping:
                os._exit(128 + sig)
            self.stopping = self.quiet = time.monotonic()
            service.limits.draining = True  # no log line from within a signal: it might cut one in two

        async def on_tick(self, counter: int) -> bool:
            now = time.monotonic()
            if service.limits.accepted:
                self.quiet = now
            if self.stopping and now - self.stopping > config.drain_s:
                self.lost = service.limits.accepted
                service.batcher.give_up()
            if self.stopping and not self.said:
                self.said = True
                log.info("draining", extra={"fields": {"requests": service.limits.accepted}})
            done = self.stopping and now - self.quiet > QUIET_S
            return bool(await super().on_tick(counter) or service.batcher.failure or done or self.lost)

    log_as_json()
    settings = uvicorn.Config(
        service,
        http=Protocol,
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
    server = Server(settings)
    server.run(sockets=[listener])
    if failure := service.batcher.failure:
        raise ModelError("模型预热失败", found=first_line(failure), todo="zhsenti doctor 检查这台机器。")
    log.info("stopped", extra={"fields": {"lost": server.lost}})
    return 1 if server.lost else 0
