"""Everything a user can cause is one of these; anything else is a bug and keeps its traceback.

ZhsentiError                 exit code 2, one message in Chinese
├── ConfigError              a flag or a YAML key
├── DataError                a file, a column, a label, a text
├── ModelError               a base model: its source, its parts, its shape
│   ├── MemoryShortError     there is too little memory to load it, or to score a text with it
│   └── DeviceLostError      its GPU computes nothing more for this process
├── ArtifactError            a saved adapter folder or checkpoint
└── TrainingError            a run that cannot start or go on
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable

from zhsenti.core.printable import printable


class ZhsentiError(Exception):
    """A user's mistake: what is wrong, what was expected, what was found, what to do next (all in Chinese)."""

    exit_code = 2

    def __init__(self, problem: str, *, expected: str = "", found: str = "", todo: str = "") -> None:
        self.problem, self.expected, self.found, self.todo = problem, expected, found, todo
        parts = [("期望", expected), ("实际", found), ("怎么办", todo)]
        super().__init__("\n".join([problem, *(f"  {name}：{text}" for name, text in parts if text)]))


class ConfigError(ZhsentiError):
    pass


class DataError(ZhsentiError):
    pass


class ModelError(ZhsentiError):
    pass


class MemoryShortError(ModelError):
    pass


class DeviceLostError(ModelError):
    pass


class ArtifactError(ZhsentiError):
    pass


class TrainingError(ZhsentiError):
    pass


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, or its type: libraries' messages run on."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop by a signal, and has: nothing is lost, and what to do next has been said."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.exit_code = 128 + signal


def exit_on_error(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Run a command's ``main``; turn a ZhsentiError into one message on stderr and its exit code.

    Ctrl-C gives 130, SIGTERM 143, and a closed pipe (``… | head``) gives 0, as shell users expect.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr is: an emoji must not end a run on a GBK console
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return main(argv) or 0
    except ZhsentiError as error:
        print(printable(f"错误：{error}"), file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        print("\n已中断。", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f"：{error.filename}" if error.filename else ""
        text = f"错误：读写不了文件{where}\n  实际：{error.strerror}\n  怎么办：{_DISK[error.errno]}"
        print(printable(text), file=sys.stderr)
        return 2


_DISK = {
    errno.ENOSPC: "腾出空间后重来。",
    errno.EDQUOT: "腾出配额后重来。",
    errno.EROFS: "这里是只读的，换一个输出位置。",
    errno.EACCES: "没有权限，换一个位置。",
    errno.ENAMETOOLONG: "名字太长，换一个短的。",
    errno.ELOOP: "符号链接绕成了圈，换一个位置。",
    errno.EEXIST: "那里已有同名的文件或断掉的链接，换一个位置。",
    errno.EISDIR: "那里有一个同名的文件夹，挪开它。",
}
