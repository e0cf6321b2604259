"""Tests that were not run are said at the end, in one line with what would make them run; in CI they are failures.

pytest says "41 skipped" and is green. ``tests/conftest.py`` takes the hooks below from here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

NOTES = "ZHSENTI_TEST_NOTES"  # a file that takes the line, too: make test shows it last, .ci/run looks into it
NO_CHROMIUM = "没有 Chromium：apt-get install chromium"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that a browser takes part in."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a skipped test, or a file of tests, was skipped."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a browser that is missing is a failure."""
    report = yield
    if report.skipped and item.get_closest_marker("browser") and in_ci():
        report.outcome, report.longrepr = "failed", f"CI 里不许跳过浏览器测试：{reason_of(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a file of tests whose library is missing is a failure."""
    report = yield
    if report.skipped and in_ci():
        report.outcome, report.longrepr = "failed", f"CI 里不许跳过：{reason_of(report)}"
    return report


def summary(reports: list[pytest.TestReport | pytest.CollectReport]) -> str:
    """One line of what was not run, and of how many browser tests were.

    Args:
        reports: Of all tests: the call, or the step before it that skipped the test; and of files that were skipped.

    Returns:
        The line; it names every reason once, with how many tests or files it kept from running.
    """
    ran = 0
    missing: Counter[tuple[str, str]] = Counter()
    for report in reports:
        if isinstance(report, pytest.CollectReport):
            missing["个文件", reason_of(report)] += report.skipped
        elif "browser" in report.keywords:
            ran += report.when == "call" and not report.skipped
            missing["个浏览器测试", NO_CHROMIUM] += report.skipped
        else:
            missing["个测试", reason_of(report) if report.skipped else ""] += report.skipped
    said = "，".join(f"{number} {kind}（{reason}）" for (kind, reason), number in missing.items() if number)
    return f"没有运行：{said or '无'}；运行了 {ran} 个浏览器测试"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the line: on the terminal where something is missing, and into ``NOTES`` where the environment names it."""
    if hasattr(config, "workerinput"):
        return  # a process of xdist's, which knows its own share alone
    stats = terminalreporter.stats
    reports = [report for kind in ("passed", "failed", "skipped") for report in stats.get(kind, [])]
    reports = [report for report in reports if isinstance(report, (pytest.TestReport, pytest.CollectReport))]
    line = summary(reports)
    if stats.get("skipped"):
        terminalreporter.write_line(line)
    if notes := os.environ.get(NOTES):
        with Path(notes).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
