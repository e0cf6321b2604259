"""What every page and card is made with: one template environment, one way to write a text file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """The package's templates; every value in them is escaped, a missing one is an error."""
    return Environment(
        loader=PackageLoader("zhsenti.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_text(path: Path, text: str) -> None:
    """Atomic: a reader sees the old file or the whole new one. Lone surrogates, which no file can hold, become "?"."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("wb") as stream:
        stream.write(text.encode("utf-8", "replace"))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
