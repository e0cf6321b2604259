"""What a check says: one finding a line. A check that fails is a finding too, and no secret leaves by any of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TypeVar

from zhsenti.core.errors import first_line
from zhsenti.core.paths import package_file

OK, NOTICE, PROBLEM, SKIPPED = "ok", "notice", "problem", "skipped"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was checked.
        status: OK, NOTICE, PROBLEM or SKIPPED.
        found: What there is, in Chinese.
        todo: What to do about it; every NOTICE and PROBLEM has one.
    """

    name: str
    status: str
    found: str
    todo: str = ""


Check = Callable[[], Iterable[Finding]]
T = TypeVar("T")


def guarded(name: str, check: Check) -> Iterator[Finding]:
    """All findings of ``check``, safe to show; an exception of any kind becomes one more, a PROBLEM."""
    try:
        for finding in check():
            yield replace(finding, name=safe(finding.name), found=safe(finding.found), todo=safe(finding.todo))
    except ModuleNotFoundError as error:
        yield Finding(name, PROBLEM, f"没法查：没有安装 Python 包 {error.name}", install_requirements())
    except Exception as error:  # a doctor that stops halfway helps nobody
        todo = "其余各项不受影响。修好别的 ✗ 后仍这样，就把这一行报告给 zhsenti 的作者。"
        yield Finding(name, PROBLEM, safe(f"没法查：{kind_and_line(error)}"), todo)


def kind_and_line(error: BaseException) -> str:
    """``OSError: …``: the exception's type and the first line of what it says."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


_SECRET_NAME = re.compile("KEY|TOKEN|PASSW|SECRET|PROXY", re.IGNORECASE)
_USER_IN_URL = re.compile(r"//[^/\s]*@")


def safe(text: str) -> str:
    """``text`` as anybody may see it.

    Without values of variables that hold secrets, without ``user:password@`` in addresses, and without characters that
    a terminal would obey (a folder may be named so).
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, "…")
    text = _USER_IN_URL.sub("//…@", text)
    return "".join(char if char.isprintable() else "?" for char in text)


def later(work: Callable[[], T]) -> Future[T]:
    """The result of ``work``, computed in a daemon thread: one that hangs does not keep the program alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def clone_root() -> Path | None:
    """The repository that this package runs from, or None where it was installed from a wheel."""
    root = package_file("zhsenti").resolve().parent
    try:
        is_ours = 'name = "zhsenti"' in (root / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return root if is_ours and (root / "constraints.txt").is_file() else None


def pip() -> str:
    """How to call the pip of this very interpreter."""
    path = shutil.which("pip")
    same = path is not None and Path(path).parent == Path(sys.executable).parent
    return "pip" if same else f"{shlex.quote(sys.executable)} -m pip"


def install_requirements() -> str:
    """The command that installs what is missing: into a clone, or beside a wheel."""
    root = clone_root()
    return f"cd {shlex.quote(str(root))} && {pip()} install -r requirements.txt" if root else f"{pip()} install zhsenti"
