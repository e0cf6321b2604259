"""What the tests of doctor share."""

from __future__ import annotations

from pathlib import Path

from zhsenti.doctor.findings import OK, SKIPPED, Finding
from zhsenti.models.embedded import seal_model


def one(found) -> Finding:
    """The only finding; whoever is not OK must say what to do."""
    (finding,) = found
    assert finding.status in (OK, SKIPPED) or finding.todo
    return finding


def sealed_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "config.json").write_text("{}")
    seal_model(folder, {"requested": "embedded"})
    return folder


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
