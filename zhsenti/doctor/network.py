"""Where models and data come from: can they be reached, and what decides it. Nothing of the user's is sent."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial

from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, SKIPPED, Finding, later
from zhsenti.training.login import wandb_logged_in

REQUEST_SECONDS = 5.0  # for each wait inside one request
ALL_SECONDS = 8.0  # for all sources together: name resolution knows no timeout of its own
HUB, MIRROR, MODELSCOPE = "https://huggingface.co", "https://hf-mirror.com", "https://modelscope.cn"
WITHOUT = "没有它，--model_name embedded 照常能用（只需 pip 源）。"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Source:
    """A place that models come from.

    Attributes:
        name: What users call it.
        address: Where it is, without user and password.
        path: What is asked of it.
    """

    name: str
    address: str
    path: str

    @property
    def host(self) -> str:
        """The address without scheme and path."""
        return self.address.split("://")[-1].split("/")[0]


def sources() -> list[Source]:
    """The hub (or what HF_ENDPOINT names in its place), the mirror and ModelScope."""
    path = "/api/models/Qwen/Qwen2.5-0.5B"
    hub = _without_user(os.environ.get("HF_ENDPOINT", "")).rstrip("/") or HUB
    domain = os.environ.get("MODELSCOPE_DOMAIN", "")
    modelscope = os.environ.get("MODELSCOPE_ENDPOINT") or (f"https://{domain}" if domain else MODELSCOPE)
    listed = [
        Source("HF_ENDPOINT" if hub != HUB else "Hugging Face", hub, path),
        Source("hf-mirror", MIRROR, path),
        Source("ModelScope", _without_user(modelscope).rstrip("/"), "/api/v1/models/Qwen/Qwen2.5-0.5B"),
    ]
    return [source for index, source in enumerate(listed) if index != 1 or hub != MIRROR]


def _without_user(address: str) -> str:
    return re.sub(r"//.*@", "//", address)


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Answer:
    """What came of asking a source.

    Attributes:
        error: What went wrong, in Chinese; "" when it answered as it should.
        seconds: How long that took.
    """

    error: str
    seconds: float = 0.0


class Reach:
    """All sources asked at once, in the background, from the moment it is built."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + ALL_SECONDS
        self._asked: list[tuple[Source, Future[Answer]]] = [
            (source, later(partial(ask, source))) for source in sources()
        ]

    def answers(self) -> list[tuple[Source, Answer]]:
        """Whatever came within ALL_SECONDS of the start; no answer is an answer too."""
        answers = []
        for source, future in self._asked:
            try:
                answer = future.result(timeout=max(0.0, self._deadline - time.monotonic()))
            except FutureTimeout:
                answer = Answer(f"{ALL_SECONDS:.0f} 秒内没有回答")
            answers.append((source, answer))
        return answers


def ask(source: Source) -> Answer:
    """One small anonymous request; what goes wrong is the answer, and no error."""
    if not _is_http(source.address):
        return Answer("不是 http:// 或 https:// 开头的地址")
    start = time.perf_counter()
    try:
        request = urllib.request.Request(source.address + source.path, headers={"User-Agent": "zhsenti-doctor"})
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
            response.read(1)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(f"回答 HTTP {error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(_reason(error.reason if isinstance(error, urllib.error.URLError) else error))
    return Answer("", time.perf_counter() - start)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"{REQUEST_SECONDS:.0f} 秒内没有回答"
    kinds = (
        (socket.gaierror, "域名解析不了（没有网络，或 DNS 有误）"),
        (ConnectionRefusedError, "拒绝连接"),
        (ssl.SSLError, "TLS 证书不被信任（检查代理和系统时间）"),
        (http.client.HTTPException, "回答的不是 HTTP"),
        (ValueError, "地址写得不对"),
    )
    return next((text for kind, text in kinds if isinstance(error, kind)), f"连不上（{type(error).__name__}）")


def reachable(answers: Sequence[tuple[Source, Answer]]) -> Iterator[Finding]:
    """A line for each source; where one does not answer, which one to take in its place."""
    up = {source.name for source, answer in answers if not answer.error}
    for source, answer in answers:
        name = f"网络（{source.name}）"
        if not answer.error:
            yield Finding(name, OK, f"{source.host} 连得上，{answer.seconds:.1f} 秒")
            continue
        yield Finding(name, NOTICE, f"{source.host} {answer.error}", _instead(source, up))


def _instead(source: Source, up: set[str]) -> str:
    if source.name == "HF_ENDPOINT":
        return f"检查地址，或 unset HF_ENDPOINT。{WITHOUT}"
    if source.name == "Hugging Face" and "hf-mirror" in up:
        return f"export HF_ENDPOINT={MIRROR}。{WITHOUT}"
    if up:
        return f"不必处理：{'、'.join(sorted(up))} 连得上。"
    return f"检查网络和代理。{WITHOUT}"


def skipped() -> Iterator[Finding]:
    """The same lines where nothing was asked."""
    for source in sources():
        yield Finding(f"网络（{source.name}）", SKIPPED, "没有查（--offline）")


def settings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Variables of ``environment`` that decide about the network; of secrets only whether they are set."""
    given = [name for name in PROXIES if environment.get(name) or environment.get(name.lower())]
    tokens = [name for name in TOKENS if environment.get(name)]
    found = f"代理：{'、'.join(given) + ' 已设' if given else '没有设'}；"
    found += f"令牌：{'、'.join(tokens) + ' 已设' if tokens else '没有设（公开的模型不需要）'}"
    endpoint = environment.get("HF_ENDPOINT")
    if endpoint and not _is_http(endpoint):
        todo = f"写成完整地址，如 export HF_ENDPOINT={MIRROR}，或 unset HF_ENDPOINT"
        yield Finding("网络设置", PROBLEM, f"HF_ENDPOINT 不是 http:// 或 https:// 开头的地址；{found}", todo)
        return
    offline = [name for name in OFFLINE if environment.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    if offline:
        todo = f"要下载模型或数据：unset {' '.join(offline)}。只用本地已有的或 --model_name embedded 就不必。"
        yield Finding("网络设置", NOTICE, f"离线模式：{'、'.join(offline)} 已设，不会连 hub；{found}", todo)
    else:
        yield Finding("网络设置", OK, found)


def wandb() -> Iterator[Finding]:
    """Whether runs will be synced to Weights & Biases."""
    if wandb_logged_in():
        yield Finding("W&B", OK, "已登录，训练会同步（这里不连接它）")
    else:
        yield Finding("W&B", OK, "没有登录或已停用，训练不同步；要同步：wandb login")
