"""The command's own server in a process of its own: bodies cut off, clients that hang up, signals, the log."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import time

import httpx
import pytest

from tests.serving.running import error_of
from tests.waiting import until

TEXT = "秘密的酒店很好"


def post(server, text: str = TEXT, **kwargs) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/predict", json={"text": text}, timeout=20, **kwargs)


def send_head(server, *headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    lines = ["POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection:
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def waiting(server) -> int:
    """Requests that the service has accepted and not answered."""
    return int(float(re.search(r"^zhsenti_queue_requests (\S+)", httpx.get(f"{server.url}/metrics").text, re.M)[1]))


def test_413_comes_while_the_body_is_still_on_its_way(server):
    running = server(max_body_kb=64)
    declared = send_head(running, f"Content-Length: {10 << 30}")
    answer = read_all(declared)  # not a byte of the body was sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()

    chunked = send_head(running, "Transfer-Encoding: chunked")
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    for _ in range(3):  # and the end never comes
        chunked.sendall(chunk)
    answer = read_all(chunked)
    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[-1])["error"]["code"] == "body_too_large"
    # A client that sends everything before it reads still gets the answer, not a reset connection.
    large = httpx.post(f"{running.url}/v1/predict", content=b"x" * (4 << 20), timeout=20)
    assert (large.status_code, error_of(large)["code"]) == (413, "body_too_large")


def test_a_head_that_never_ends_is_hung_up_on_and_a_slow_answer_is_not(server):
    running = server(head_s=0.3, seconds=1.0)
    silent = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    dripping = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    dripping.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: local")
    assert post(running).status_code == 200
    assert read_all(silent) == read_all(dripping) == b""


def test_a_client_that_hangs_up_while_it_waits_is_not_computed(server):
    running = server(seconds=0.6)
    first = threading.Thread(target=post, args=(running,))
    first.start()
    time.sleep(0.2)
    body = json.dumps({"text": "走了"}).encode()
    connection = send_head(running, f"Content-Length: {len(body)}")
    connection.sendall(body)
    until(lambda: "zhsenti_queue_requests 2.0" in httpx.get(f"{running.url}/metrics").text)
    connection.close()
    until(lambda: '"status": 499' in running.log)
    first.join()
    assert 'zhsenti_predictions_total{label="负面",model="demo"}' not in httpx.get(f"{running.url}/metrics").text


def test_sigterm_answers_what_was_accepted_and_ends_with_0(server):
    running = server(seconds=0.25, drain_s=20)
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(post(running).status_code)) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: waiting(running) + len(statuses) >= 12)
    running.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
    late = post(running)
    assert (late.status_code, error_of(late)["code"], late.headers["connection"]) == (503, "draining", "close")
    for thread in threads:
        thread.join()
    assert statuses == [200] * 12
    assert running.process.wait(10) == 0
    lines = [json.loads(line) for line in running.log.splitlines()]
    assert [line["event"] for line in lines if line["event"] != "request"] == ["draining", "stopped"]


def test_sigterm_waits_for_a_body_that_is_still_arriving(server):
    running = server(drain_s=20)
    body = json.dumps({"text": "很好"}).encode()
    connection = send_head(running, f"Content-Length: {len(body)}")
    connection.sendall(body[:5])
    until(lambda: "zhsenti_http_requests_in_progress 2.0" in httpx.get(f"{running.url}/metrics").text)  # and itself
    running.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
    time.sleep(1)
    connection.sendall(body[5:])
    assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert running.process.wait(10) == 0


def test_a_second_signal_ends_it_at_once(server):
    running = server(seconds=2)
    waiting = threading.Thread(target=lambda: _ignore(post, running))
    waiting.start()
    until(lambda: "zhsenti_queue_requests 1.0" in httpx.get(f"{running.url}/metrics").text)
    running.process.send_signal(signal.SIGINT)
    until(lambda: "draining" in running.log)
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(10) == 130
    assert time.monotonic() - began < 1.5
    waiting.join()


def test_what_cannot_be_answered_in_time_is_told_so_and_shows_in_the_exit_code(server):
    running = server(seconds=0.7, drain_s=0.2)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(post(running, "好" * (50 + n)).status_code))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    until(lambda: "zhsenti_queue_requests 6.0" in httpx.get(f"{running.url}/metrics").text)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 1
    for thread in threads:
        thread.join()
    assert len(statuses) == 6
    assert set(statuses) <= {200, 503}
    assert 503 in statuses


def test_the_log_is_json_without_a_word_of_a_review(server):
    running = server()
    post(running, headers={"x-request-id": "mine-1"})
    post(running, f"{TEXT}爆炸")
    httpx.get(f"{running.url}/{TEXT}?q={TEXT}", headers={"x-request-id": TEXT.encode()})
    until(lambda: running.log.count('"request"') >= 4)
    lines = [json.loads(line) for line in running.log.splitlines()]
    mine = next(line for line in lines if line.get("request_id") == "mine-1")
    known = {"time", "level", "event", "request_id", "method", "route", "status", "duration_s"}
    assert set(mine) == known | {"rows", "tokens", "model"}
    assert (mine["rows"], mine["tokens"], mine["route"], mine["status"]) == (1, len(TEXT), "/v1/predict", 200)
    assert "RuntimeError" in running.log
    for form in (TEXT, json.dumps(TEXT)[1:-1], "%E7%A7%98"):
        assert form not in running.log


def _ignore(function, *args) -> None:
    with contextlib.suppress(httpx.HTTPError):
        function(*args)


@pytest.mark.parametrize(("text", "said"), [("显卡掉了", "illegal memory access"), ("线程退出", "SystemExit")])
def test_a_worker_that_dies_ends_the_process_which_says_why(server, text, said):
    running = server(seconds=0.3)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda text=one: statuses.append(post(running, text).status_code))
        for one in (TEXT, text, TEXT, TEXT)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}
    assert 503 in statuses
    assert running.process.wait(15) == 2
    records = [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]
    assert [one["event"] for one in records].count("worker_died") == 1
    last = running.log.splitlines()[len(records) :]
    assert last[0].startswith("错误：")
    assert said in running.log
    assert any("怎么办" in line for line in last)
    assert "Traceback" not in running.log
