"""A whole evaluation, as a user would start it, and a text that tries to get out of every page."""

from __future__ import annotations

from pathlib import Path

from zhsenti.evaluation import command

HOSTILE = '<script>alert(1)</script><img src="http://example.com/x.png" onerror=alert(2)>'


def run(adapter: Path, *flags: str) -> Path:
    output = adapter.parent / "out"
    assert command.main(["--model_path", str(adapter), "--output_dir", str(output), *flags]) == 0
    return output
