"""Sources that answer, fail and hang; what the environment says of the network."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.doctor.helpers import one
from zhsenti.doctor import network
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM


@contextmanager
def server(status: int = 200, seconds: float = 0.0):
    """A real HTTP server; yields its address and the headers it was sent."""
    headers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append(str(self.headers))
            time.sleep(seconds)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads, running.block_on_close = True, False
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", headers
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture
def only_local(monkeypatch):
    """The three sources are these addresses; nothing outside this machine is asked."""

    def only_local(hub: str, mirror: str, modelscope: str) -> None:
        monkeypatch.setattr(network, "HUB", hub)
        monkeypatch.setattr(network, "MIRROR", mirror)
        monkeypatch.setattr(network, "MODELSCOPE", modelscope)

    return only_local


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_sources_that_answer(only_local):
    with server() as (up, headers):
        only_local(up, f"{up}/mirror", f"{up}/scope")
        found = list(network.reachable(network.Reach().answers()))
    assert [finding.status for finding in found] == [OK, OK, OK]
    assert len(headers) == 3


def test_sources_that_fail_each_in_its_own_way(only_local, closed, monkeypatch):
    monkeypatch.setattr(network, "REQUEST_SECONDS", 0.5)
    with server(status=500) as (broken, _), server(seconds=3) as (slow, _):
        only_local(broken, slow, closed)
        found = list(network.reachable(network.Reach().answers()))
    assert [finding.status for finding in found] == [NOTICE] * 3
    for finding, word in zip(found, ("HTTP 500", "没有回答", "拒绝连接"), strict=True):
        assert word in finding.found
        assert "embedded" in finding.todo


def test_a_source_that_hangs_forever_does_not_hold_up_the_rest(only_local, closed, monkeypatch):
    """Each wait is short enough for its own timeout, all together they are not."""
    monkeypatch.setattr(network, "ALL_SECONDS", 1.0)
    with server() as (up, _), server(seconds=4) as (slow, _):
        only_local(up, slow, closed)
        start = time.monotonic()
        (_, good), (_, late), (_, refused) = network.Reach().answers()
    assert time.monotonic() - start < 3
    assert (good.error, "1 秒内没有回答" in late.error, refused.error) == ("", True, "拒绝连接")


def test_the_mirror_is_offered_where_the_hub_is_out_of_reach(only_local, closed):
    with server() as (up, _):
        only_local(closed, up, closed)
        hub, mirror, modelscope = network.reachable(network.Reach().answers())
    assert (hub.status, mirror.status, modelscope.status) == (NOTICE, OK, NOTICE)
    assert f"HF_ENDPOINT={up}" in hub.todo
    assert "hf-mirror 连得上" in modelscope.todo


def test_hf_endpoint_is_asked_in_the_hubs_place_without_its_password(only_local, closed, monkeypatch):
    with server(status=404) as (up, headers):
        only_local(closed, closed, closed)
        monkeypatch.setenv("HF_ENDPOINT", up.replace("//", "//me:hunter22@") + "/")
        found = next(iter(network.reachable(network.Reach().answers())))
    assert found.name == "网络（HF_ENDPOINT）"
    assert "HTTP 404" in found.found
    assert "hunter22" not in str(found) + str(headers)
    assert "uthorization" not in str(headers)


@pytest.mark.parametrize("address", ["huggingface.co", "file:///etc/passwd", "ftp://x", "//x"])
def test_an_hf_endpoint_that_is_no_address(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "http://" in network.ask(network.sources()[0]).error
    assert one(network.settings(os.environ)).status == PROBLEM


@pytest.mark.parametrize("address", ["http://[bad", "http://host:port", "http://a b"])
def test_odd_addresses_are_answers_not_exceptions(address):
    assert network.ask(network.Source("x", address, "/")).error


def test_something_that_does_not_speak_http():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: listener.accept()[0].sendall(b"SSH-2.0\r\n"), daemon=True).start()
    port = listener.getsockname()[1]
    assert "不是 HTTP" in network.ask(network.Source("x", f"http://127.0.0.1:{port}", "/")).error
    listener.close()


def test_network_settings():
    assert one(network.settings({})).status == OK
    found = one(network.settings({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "0"}))
    assert (found.status, found.todo.split("。")[0]) == (NOTICE, "要下载模型或数据：unset HF_HUB_OFFLINE")
    found = one(network.settings({"https_proxy": "http://me:hunter22@proxy", "HF_TOKEN": "hf_abcdefgh"}))
    assert "HTTPS_PROXY 已设" in found.found
    assert "HF_TOKEN 已设" in found.found
    assert not any(secret in str(found) for secret in ("hunter22", "hf_abcdefgh"))


def test_wandb(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "没有登录" in one(network.wandb()).found
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    found = one(network.wandb())
    assert "已登录" in found.found
    assert "0123456789abcdef" not in str(found)
