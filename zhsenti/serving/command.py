"""``zhsenti serve``: settings checked, port taken, models loaded, then uvicorn until it is asked to stop."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import socket
from typing import TYPE_CHECKING

from zhsenti.core.console import say
from zhsenti.core.errors import ConfigError, first_line
from zhsenti.core.flags import parse, split_names
from zhsenti.core.paths import ADAPTER, user_path
from zhsenti.serving.config import EXAMPLE_TEXT, EXAMPLES, ServeConfig

if TYPE_CHECKING:
    from zhsenti.serving.app import Service
    from zhsenti.serving.limits import Gate

KEY_VARIABLE = "ZHSENTI_API_KEY"
KEY_CHARACTERS = 16


def main(argv: list[str] | None = None) -> int:
    """The command: 0 when all that was accepted has been answered, 1 when time ran out."""
    config, _ = parse(ServeConfig, argv, "HTTP 服务：POST /v1/predict，网页在 /", examples=EXAMPLES)
    gate = make_gate(config, os.environ.get(KEY_VARIABLE))
    listener = bind(config.host, config.port)
    with listener:
        service = load_service(config, gate)
        from zhsenti.serving.server import run

        host, port = listener.getsockname()[:2]
        address = f"http://{_in_address(host)}:{port}"
        say(f"地址 {address}   网页 {address}/   接口 {address}/openapi.json")
        say("API key：要" if gate.key else "API key：不要（只在本机能访问）")
        say(f"下一步：{_curl(address, config, gate)}")
        return run(service, config, listener)  # from here on the log on standard error is JSON lines alone


def _curl(address: str, config: ServeConfig, gate: Gate) -> str:
    """A command that asks this service; the key itself is not in it."""
    from zhsenti.serving.limits import host_name

    headers = ""
    if gate.hosts is not None and host_name(address.partition("//")[2].encode()) not in gate.hosts:
        headers = f" -H {shlex.quote(f'Host: {min(gate.hosts)}')}"
    if gate.key:
        path = config.api_key_file
        value = f"$(cat {shlex.quote(str(user_path(path)))})" if path else f"${KEY_VARIABLE}"
        headers += f' -H "Authorization: Bearer {value}"'
    body = json.dumps({"text": EXAMPLE_TEXT}, ensure_ascii=False)
    return f"curl {address}/v1/predict{headers} -H 'Content-Type: application/json' -d '{body}'"


def _in_address(host: str) -> str:
    """A host as addresses and Host headers have it: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def make_gate(config: ServeConfig, variable: str | None) -> Gate:
    """Who gets in.

    Args:
        config: Address, key file and host names.
        variable: What the environment variable of the key holds; a key file comes before it.

    Raises:
        ConfigError: Others could reach the service without a key, or the key is none.
    """
    from zhsenti.serving.limits import Gate, host_name

    key = _read_key(config.api_key_file, variable)
    loopback = is_loopback(config.host)
    if key is None and not loopback:
        raise ConfigError(
            f"在 {config.host} 上监听，别的机器也能访问，必须有 API key",
            todo=f"用 --api_key_file 或环境变量 {KEY_VARIABLE} 给出，或去掉 --host（只在本机能访问）。",
        )
    named = {host_name(name.encode()) for name in split_names(config.allowed_hosts)}
    # A web page can have its own name resolve to 127.0.0.1; it cannot change the Host header (DNS rebinding).
    local = {"localhost", "127.0.0.1", "[::1]", host_name(_in_address(config.host).encode())} if loopback else set()
    return Gate(frozenset(named | local) if named or local else None, key, config.max_body_kb << 10)


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
    """Whether only this machine can reach a service that listens on ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name may stand for any address


def bind(host: str, port: int) -> socket.socket:
    """Take the address, before models are loaded for nothing.

    Returns:
        A socket that does not listen yet.

    Raises:
        ConfigError: The address cannot be had.
    """
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
    """What requests call the models: the folder's name, or its parent's when it is called lora_adapter.

    Of two with the same name the second one gets -2 after it, and so on.
    """
    names: list[str] = []
    for path in paths:
        folder = user_path(path).resolve()
        plain = name = (folder.parent if folder.name == ADAPTER else folder).name or "model"
        number = 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def load_service(config: ServeConfig, gate: Gate) -> Service:
    """Open every adapter, load it, and make the service of them. Adapters on one base share its weights.

    Raises:
        ArtifactError: A folder is not whole or not for use, or its base is not found or another one.
        ModelError: A base or an adapter cannot be loaded, for want of memory among other things.
        ConfigError: The precision cannot be had here.
    """
    from zhsenti.artifact import open_artifact

    artifacts = [open_artifact(path) for path in config.model_path]  # a wrong path fails at once, before torch loads
    from zhsenti.prediction.predictor import SentimentPredictor
    from zhsenti.serving.app import PASSES, create_app
    from zhsenti.serving.log import log_smaller_passes

    models: dict[str, SentimentPredictor] = {}
    names = model_names(config.model_path)
    for name, path, artifact in zip(names, config.model_path, artifacts, strict=True):
        models[name] = SentimentPredictor.from_folder(
            artifact, model_name=config.model_name, precision=config.precision
        )
        models[name].passes.tell = log_smaller_passes
        say(f"模型 {name}：{path}")
    batch_tokens = config.batch_tokens or PASSES * max(model.budget for model in models.values())
    return create_app(models, config, gate, batch_tokens)
