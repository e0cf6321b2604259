"""make wheel: build dist/zhsenti-*.whl from a copy of what belongs into it.

Thanks to the copy nothing stale can get in (setuptools leaves build/ beside the sources and reuses it), and the
checkout stays as it was. The same sources give the same bytes: file times are those of the last commit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("zhsenti", "pyproject.toml", "README.md", "LICENSE")
EARLIEST = "315532800"  # 1980, the first year that a zip file can hold


def commit_time() -> str:
    """Seconds since 1970 of the last commit; those of 1980 outside a checkout."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return EARLIEST
    return done.stdout.strip() or EARLIEST


def has_setuptools() -> bool:
    """Whether this environment holds a setuptools that pyproject.toml accepts; else pip fetches one for the build."""
    try:
        return int(version("setuptools").split(".")[0]) >= 80
    except PackageNotFoundError:
        return False


def build(folder: Path) -> Path:
    """Build the wheel and put it, alone of its kind, into ``folder``.

    Args:
        folder: Where the wheel goes; made when it is missing.

    Returns:
        The path of the wheel.

    Raises:
        subprocess.CalledProcessError: pip could not build it; what it said went to stderr.
    """
    with tempfile.TemporaryDirectory(prefix="zhsenti-wheel-") as name:
        copy, made = Path(name) / "source", Path(name) / "made"
        copy.mkdir()
        for source in SOURCES:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(path, copy / source)
        command = [sys.executable, "-P", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(made), str(copy)]
        command += ["--disable-pip-version-check", *(["--no-build-isolation"] if has_setuptools() else [])]
        subprocess.run(command, env={"SOURCE_DATE_EPOCH": commit_time(), **os.environ}, check=True)
        (wheel,) = made.glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("zhsenti-*.whl"):
            old.unlink()
        return Path(shutil.move(wheel, folder / wheel.name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="打包成 wheel，放进 dist/")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="放在哪里")
    print(build(parser.parse_args().folder))
