"""schemathesis: openapi.json against a real server that wants a key; all checks, the same cases every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ENV
from tests.serving.running import ServerProcess

HERE = Path(__file__).parent
KEY = "0123456789abcdef"


@pytest.fixture
def contract(tmp_path):
    (tmp_path / "key").write_text(KEY)
    running = ServerProcess(tmp_path, api_key_file=str(tmp_path / "key"))
    yield running
    running.stop()


def test_schemathesis_finds_nothing(contract, tmp_path):
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{contract.url}/openapi.json",
        "-H", f"Authorization: Bearer {KEY}", "--checks", "all", "--mode", "all", "--generation-deterministic",
        "--max-examples", "200", "--no-color",
    ]  # fmt: skip
    environment = {**ENV, "SCHEMATHESIS_HOOKS": str(HERE / "contract_hooks.py")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "5 selected / 5 total" in done.stdout
    assert "internal_error" not in contract.log
