"""Where things are on this machine: the cache, paths as users write them, data files inside an installed package."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Where models and data that were fetched once are kept: ``ZHSENTI_CACHE``, or ~/.cache/zhsenti."""
    return user_path(os.environ.get("ZHSENTI_CACHE") or "~/.cache/zhsenti")


def model_cache() -> Path:
    """Where base models that were prepared or converted once are kept, a folder each."""
    return cache_root() / "models"


ADAPTER = "lora_adapter"  # the folder inside a run's that holds what it saved


def run_folder(method: str) -> str:
    """Where a training with ``method`` writes unless it is told otherwise."""
    return f"experiments/{method}"


def user_path(text: str) -> Path:
    """``text`` as a path, with ~ for a home; that of a user who does not exist is a plain name."""
    return Path(os.path.expanduser(text))


def package_file(package: str, *parts: str) -> Path:
    """The path of a data file or folder that is installed with a package.

    Args:
        package: A dotted name such as ``zhsenti.evaluation``; it is imported.
        parts: The way from the package's folder to the file, such as ``"templates", "report.html.j2"``.

    Returns:
        The path, whether or not there is such a file.

    Raises:
        ModuleNotFoundError: There is no such package.
    """
    from importlib.resources import files  # 30 ms that most commands need not spend

    return Path(str(files(package).joinpath(*parts)))
