"""No test is skipped in silence: one line says what was not run, and in CI a missing browser is a failure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ENV

SUITE = """
import pytest

@pytest.fixture(scope="module")
def browser():
    pytest.skip("no browser here")

@pytest.fixture
def page(browser):
    return browser

@pytest.mark.parametrize("number", range(3))
def test_page(page, number):
    pass

def test_plain():
    pass

@pytest.mark.skipif(True, reason="only elsewhere")
def test_elsewhere():
    pass
"""


@pytest.fixture
def suite(tmp_path):
    """A run of pytest, in two processes, on tests that miss a browser and a library."""
    (tmp_path / "conftest.py").write_text("from tests.not_run import *\n", encoding="utf-8")
    (tmp_path / "test_some.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "test_library.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  browser: needs Chromium\n")

    def run(ci: str) -> subprocess.CompletedProcess[str]:
        own = {"CI": ci, "ZHSENTI_TEST_NOTES": str(tmp_path / "notes")}
        own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of libraries take seconds
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers"]
        command += ["-p", "xdist", "-n", "2"]
        return subprocess.run(command, cwd=tmp_path, env={**ENV, **own}, capture_output=True, text=True)

    return run


def test_what_was_not_run_is_one_line_with_the_way_to_get_it(suite, tmp_path):
    done = suite("")
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("没有运行：")]
    assert "3 个浏览器测试（没有 Chromium：apt-get install chromium）" in line
    assert "1 个测试（only elsewhere）" in line
    assert "1 个文件（could not import 'no_such_library'" in line
    assert line.endswith("；运行了 0 个浏览器测试")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == f"{line}\n"


def test_in_ci_a_missing_browser_or_library_fails(suite):
    done = suite("true")
    assert done.returncode == 1
    assert "1 passed, 1 skipped, 4 errors" in done.stdout
    assert "CI 里不许跳过浏览器测试：no browser here" in done.stdout
    assert "CI 里不许跳过：could not import 'no_such_library'" in done.stdout
