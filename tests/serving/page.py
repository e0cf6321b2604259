"""What people do on the page, for the tests of it; skips their module where Playwright is not installed."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect

HOSTILE = "<img src=x onerror=window.stolen=1>"
MIXED = "😀位置很好，房间不错，但是晚上太吵"


def judge(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.click("#judge")


def judge_lines(page: Any, *lines: str) -> None:
    page.click("#tab-many")
    page.fill("#lines", "\n".join(lines))
    page.click("#start")
    finished(page)


def judge_file(page: Any, name: str, content: bytes) -> None:
    page.click("#tab-many")
    give(page, name, content)
    expect(page.locator("#file-name")).to_contain_text(name)
    page.click("#start")
    finished(page)


def give(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def finished(page: Any) -> None:
    expect(page.locator("#many-news")).to_contain_text(re.compile("完成|Done"))
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def bodies(page: Any) -> list[dict[str, Any]]:
    """What the page asks the service from now on, as it asks."""
    sent: list[dict[str, Any]] = []
    page.on("request", lambda request: request.url.endswith("/v1/predict") and sent.append(request.post_data_json))
    return sent


def rows_of(page: Any) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in page.locator("#rows tbody tr").all()]


def downloaded(page: Any, kind: str) -> str:
    with page.expect_download() as waiting:
        page.click(f"#download-{kind}")
    assert waiting.value.suggested_filename == f"zhsenti.{kind}"
    return Path(waiting.value.path()).read_bytes().decode("utf-8")


def csv_of(page: Any) -> list[dict[str, str]]:
    text = downloaded(page, "csv")
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:], newline="")))
