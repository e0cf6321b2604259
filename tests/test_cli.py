"""``zhsenti``: one table of commands, cheap help, mistakes answered in one message."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

from zhsenti import __version__, cli
from zhsenti.core.errors import exit_on_error

HEAVY = (
    "torch", "transformers", "sklearn", "scipy", "pandas", "datasets", "matplotlib", "fastapi", "uvicorn", "snownlp",
)  # fmt: skip


def zhsenti(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "zhsenti", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_exists_and_is_explained(command):
    where, line = cli.COMMANDS[command]
    module, function = where.split(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert line in cli._help()


def test_help_is_cheap():
    """All pages in one process: what one imports, the next ones would find."""
    calls = [[], ["--help"], *([command, "--help"] for command in cli.COMMANDS)]
    code = (
        "import contextlib, io, json, sys\n"
        "from zhsenti.cli import run\n"
        "pages = []\n"
        f"for words in {calls!r}:\n"
        "    sys.argv = ['zhsenti', *words]\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as page:\n"
        "        try: run()\n"
        "        except SystemExit as e: assert not e.code\n"
        "    pages.append(page.getvalue())\n"
        f"    assert not set({HEAVY}) & set(sys.modules), ('heavy imports', words)\n"
        "print(json.dumps(pages))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = json.loads(done.stdout)
    assert len(pages) == len(calls)
    for words, page in zip(calls, pages, strict=True):
        assert (f"zhsenti {words[0]}" if len(words) == 2 else "audit") in page


@pytest.mark.parametrize(
    ("platform", "given", "expected"),
    [
        ("linux", {}, "expandable_segments:True"),
        ("win32", {}, None),
        ("linux", {"PYTORCH_ALLOC_CONF": ""}, ""),
        ("linux", {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, None),
    ],
)
def test_gpu_memory_may_grow_unless_the_user_has_said_otherwise(monkeypatch, platform, given, expected):
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTORCH_")}
    monkeypatch.setattr(os, "environ", {**others, **given})
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "argv", ["zhsenti", "--version"])
    with pytest.raises(SystemExit):
        cli.run()
    assert os.environ.get("PYTORCH_ALLOC_CONF") == expected
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") == given.get("PYTORCH_CUDA_ALLOC_CONF")


def test_torch_takes_what_it_is_told_about_memory():
    """Also a build for CPUs alone, whose allocator has no such setting."""
    code = "import torch; torch.ones(3).sum()"
    told = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_unknown_command_and_exit_codes(capfd):
    assert zhsenti("--version").stdout.strip() == f"zhsenti {__version__}"
    for words, said in (
        (["adit"], "是否指 audit"),
        (["audit"], "没有给出要审计的数据"),
        (["audit", "no-such-file.csv"], "没有这个数据文件"),
    ):
        assert exit_on_error(cli.main, words) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert said in err
    done = zhsenti("adit")
    assert (done.returncode, done.stdout) == (2, "")
    assert "是否指 audit" in done.stderr


def test_no_library_sends_statistics_unless_the_user_has_said_so():
    code = """
import os, sys
sys.argv = ["zhsenti", "--version"]
from zhsenti import cli
try:
    cli.run()
finally:
    print([os.environ[name] for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED")])
"""
    for given, expected in ({}, "['1', '1', '0']"), ({"DO_NOT_TRACK": "0"}, "['1', '0', '0']"):
        env = {**os.environ, **given}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines()[-1] == expected
