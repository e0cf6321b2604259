"""What a command left, as JSON that is equal for two runs of the same code: files by hash, JSON without times."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# What differs between two runs of the same code: times, speeds and measured memory.
VOLATILE = {"time", "date", "seconds", "prepare_seconds", "rows_per_second", "reviews_per_second", "estimated_seconds",
            "peak_memory_gb"}  # fmt: skip
UNCOMPARED = {"report.html", "model_card.md"}  # the evaluation's JSONs again, with its date and speeds
WEIGHTS = "adapter_model.safetensors"


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def steady(value: Any) -> Any:
    """A JSON value without VOLATILE fields."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, Any]:
    """Name -> JSON without VOLATILE fields, or the SHA-256, of every file in a folder but a cache and UNCOMPARED."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: steady(json.loads(path.read_bytes())) if path.suffix == ".json" else sha256(path)
        for name, path in files.items()
        if name not in UNCOMPARED and not name.startswith("cache/")
    }


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def trained(folder: Path) -> dict[str, Any]:
    """What a run left: the log since it last began, the adapter, and the last checkpoint's files.

    The adapter is the best step's, which may be an early one; the checkpoint's weights have seen every step. A mean of
    each of its tensors is there to tell how far two runs are apart.
    """
    from safetensors.numpy import load_file

    log, last = read_lines(folder / "train_results.json"), checkpoints(folder)[-1]
    begins = max(n for n, line in enumerate(log) if line["event"] in ("start", "resume"))
    tensors = load_file(last / WEIGHTS)
    return {
        "curve": steady(log[begins:]),
        "means": {name: float(abs(tensor).mean()) for name, tensor in sorted(tensors.items())},
        "adapter": contents(folder / "lora_adapter"),
        last.name: {name: found for name, found in contents(last).items() if not name.endswith(".json")},
    }
