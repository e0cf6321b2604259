"""``zhsenti doctor`` as a whole, and what holds for all checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.doctor.helpers import flip, sealed_model
from tests.paths import ENV, ROOT
from zhsenti.core.text_width import cells
from zhsenti.doctor import command
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, SKIPPED, Finding, guarded, later, safe


def fails():
    yield Finding("先", OK, "好")
    raise RuntimeError("https://me:hunter22@host/ 坏了\nTraceback")


def test_a_check_that_raises_is_a_line_and_the_next_ones_run():
    listed = [("坏", fails), ("缺", lambda: __import__("no_such_package")), ("后", lambda: [Finding("后", OK, "好")])]
    first, bad, missing, last = command.run(listed)
    assert (first.status, last.status) == (OK, OK)
    assert (bad.name, bad.status, bad.found) == ("坏", PROBLEM, "没法查：RuntimeError: https://…@host/ 坏了")
    assert bad.todo
    assert (missing.status, "no_such_package" in missing.found) == (PROBLEM, True)


def test_failures_in_the_background_are_raised_where_they_are_asked_for():
    (found,) = guarded("x", lambda: later(lambda: 1 / 0).result(timeout=5))
    assert found.found.startswith("没法查：ZeroDivisionError")


def test_no_secret_and_no_control_character_is_shown(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("https_proxy", "http://me:hunter22@proxy:3128")
    shown = safe("key 0123456789abcdef via http://me:hunter22@proxy:3128 and https://a:b/c@d/e \x1b[31m\n")
    assert not any(part in shown for part in ("0123456789abcdef", "hunter22", "\x1b", "\n"))
    monkeypatch.setenv("KEYBOARD", "us")
    assert safe("use this") == "use this"


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (NOTICE, 0), (SKIPPED, 0), (PROBLEM, 1)])
def test_exit_codes_lines_and_json(monkeypatch, capsys, status, code):
    monkeypatch.setattr(command, "checks", lambda *_: [("x", lambda: [Finding("内存", status, "4 GB", "这样办")])])
    assert command.main([]) == code
    shown = capsys.readouterr().out
    assert command.MARKS[status] in shown
    assert "→ 这样办" in shown
    assert command.main(["--json"]) == code
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"checks": [{"name": "内存", "status": status, "found": "4 GB", "todo": "这样办"}]}


@pytest.mark.parametrize(("status", "line"), [(OK, "下一步：zhsenti train"), (PROBLEM, "下一步：照上面的 → 做完")])
def test_it_ends_with_what_to_do_next(monkeypatch, capsys, status, line):
    monkeypatch.setattr(command, "checks", lambda *_: [("x", lambda: [Finding("内存", status, "4 GB", "这样办")])])
    command.main([])
    assert capsys.readouterr().out.splitlines()[-1].startswith(line)


def test_output_does_not_need_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(command, "checks", lambda *_: [("x", lambda: [Finding("内存", OK, "4 GB")])])
    assert command.main([]) == 0
    assert "✓ 正常    内存：4 GB" in capsys.readouterr().out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The real command, whole, in a process of its own: offline, with secrets around and a damaged model."""
    folder = tmp_path_factory.mktemp("whole")
    flip(sealed_model(folder / "models" / "embedded") / "model.safetensors")
    secrets = {"WANDB_API_KEY": "0123456789abcdef", "HF_TOKEN": "hf_qwertyuiop"}
    secrets |= {"HTTPS_PROXY": "http://me:hunter22@127.0.0.1:9", "HF_ENDPOINT": "https://me:pa/ss@127.0.0.1:9"}
    env = {**os.environ, **secrets, "ZHSENTI_CACHE": str(folder), "COLUMNS": "80", "WANDB_MODE": "online"}

    def whole(*words: str, **more: str) -> subprocess.CompletedProcess:
        command_line = [sys.executable, "-m", "zhsenti", "doctor", *words]
        done = subprocess.run(
            command_line, cwd=ROOT, env={**env, **more}, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode in (0, 1), done.stderr
        output = done.stdout + done.stderr
        assert "Traceback" not in output
        assert not [secret for secret in ("0123456789abcdef", "qwertyuiop", "hunter22", "pa/ss") if secret in output]
        return done

    return whole


def test_the_whole_command(whole):
    done = whole()
    assert done.returncode == 1
    assert all(cells(line) <= 80 for line in done.stdout.splitlines())
    assert "✗ 有问题  缓存（embedded）" in done.stdout
    assert "SHA-256 不符" in done.stdout
    assert "W&B：已登录" in done.stdout
    assert "127.0.0.1:9" in done.stdout
    assert "没法查" not in done.stdout


def test_the_whole_command_in_json_on_an_ascii_console(whole):
    done = whole("--json", "--offline", PYTHONIOENCODING="ascii")
    checks = json.loads(done.stdout)["checks"]
    assert {frozenset(entry) for entry in checks} == {frozenset({"name", "status", "found", "todo"})}
    assert [entry["status"] for entry in checks if entry["name"].startswith("网络（")] == [SKIPPED] * 3
    assert [entry["status"] for entry in checks if entry["name"] == "编码"] == [NOTICE]
    assert all(entry["todo"] for entry in checks if entry["status"] in (NOTICE, PROBLEM))
    assert {"Python", "内存", "torch", "显卡", "中文字体"} <= {entry["name"] for entry in checks}


def test_nothing_beyond_the_standard_library_is_imported_at_the_start():
    """``--help`` too is laid out by the standard library alone."""
    command_line = [sys.executable, "-S", "-P", "-m", "zhsenti", "doctor", "--help"]
    done = subprocess.run(command_line, env=ENV, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "--offline" in done.stdout
