"""Services and browser pages that end with the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.running import Running, ServerProcess, SlowPredictor, ThreadServer, make_service
from tests.tiny_models import make_adapter
from zhsenti.task import SentimentTask

PATIENCE = 20_000  # ms until a test gives up: what is waited for comes at once, but a machine may be slow
FAILED_LOAD = "Failed to load resource"  # Chromium's own line for every answer other than 2xx


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(*args: Any, warm: bool = True, **kwargs: Any) -> Running:
        running = Running(make_service(*args, **kwargs))
        started.append(running)
        return running.warm() if warm else running

    yield begin
    for running in started:
        for predictor in running.service.batcher.predictors.values():
            predictor.gate.set()
        running.service.batcher.stop()


@pytest.fixture
def server(tmp_path) -> Iterator[Callable[..., ServerProcess]]:
    started: list[ServerProcess] = []

    def begin(**options: Any) -> ServerProcess:
        started.append(ServerProcess(tmp_path, **options))
        return started[-1]

    yield begin
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def adapters(tiny_model, tmp_path_factory):
    """Two adapters of different weights on one tiny base."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(folder / f"run{seed}" / "lora_adapter", tiny_model, "label_scoring", seed=seed)
        for seed in range(2)
    ]


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Ends with the module: while it runs, no other test of this thread may start an event loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        path = found or driver.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("没有 Chromium：apt-get install chromium，或 playwright install chromium")
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[ThreadServer]:
    """One server of three models: plain, calibrated with a hostile name, and one that takes an aspect."""
    from tests.serving.page import HOSTILE

    hostile = SlowPredictor()
    hostile.temperature = 1.31
    task = SentimentTask(template="关于{aspect}的评论：{text}\n情感倾向：")
    server = ThreadServer(models={"demo": SlowPredictor(), HOSTILE: hostile, "方面": SlowPredictor(task=task)})
    yield server
    server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., ThreadServer]]:
    started: list[ThreadServer] = []

    def begin(**options: Any) -> ThreadServer:
        started.append(ThreadServer(**options))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Any]]:
    """Opens the page; when the test is over nothing has been asked of another host and the console is clean.

    ``failures``: part of a test that has the service refuse, which Chromium writes to the console by itself.
    ``prepare``: called with the blank page; the test then waits for the page by itself.
    """
    contexts, seen, allowed = [], [], []

    def open_page(
        server: ThreadServer, failures: str = "", prepare: Callable[[Any], Any] | None = None, **options: Any
    ) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        allowed.extend([failures] if failures else [])
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: _is_own(request.url, server) or seen.append(request.url))
        if prepare:
            prepare(page)
        page.goto(server.url)
        if not prepare:
            from tests.serving.page import expect

            expect(page.locator("#about")).not_to_be_empty()
        return page

    yield open_page
    for context in contexts:
        context.close()
    wrong = [line for line in seen if not any(line.startswith(FAILED_LOAD) and one in line for one in allowed)]
    assert wrong == []


def _is_own(url: str, server: ThreadServer) -> bool:
    return url.startswith((f"{server.url}/", f"blob:{server.url}/"))
