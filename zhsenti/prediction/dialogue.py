"""``--interactive``: a line is typed, its result is printed, until quit, exit or Ctrl-D."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from zhsenti.core.console import say
from zhsenti.core.errors import DeviceLostError, ZhsentiError
from zhsenti.core.paths import cache_root

LINES_KEPT = 1000  # of the history


def dialogue(answer: Callable[[str], None]) -> None:
    """Read lines and have each answered; arrow keys recall earlier ones, also those of other sessions.

    Args:
        answer: Prints the result of a text. What it raises as ZhsentiError is said; the dialogue goes on.

    Raises:
        DeviceLostError: ``answer`` did.
    """
    asking, garbled_said = sys.stdin.isatty(), False
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text must not end the dialogue
    if asking:
        _load_history()
        print("输入评论后回车；quit、exit 或 Ctrl-D 退出。")
    while True:
        try:
            line = input("评论> " if asking else "")
        except EOFError:
            break
        if line.strip().lower() in ("quit", "exit"):
            break
        if not line.strip():
            continue
        if "\ufffd" in line and not garbled_said:
            say("输入里有读不成文字的字节，读成了 �。先转成 UTF-8（iconv -f gb18030 -t utf-8），或存成文件用 --input")
            garbled_said = True
        try:
            answer(line)
        except DeviceLostError:  # no line after this one could be answered
            raise
        except ZhsentiError as error:
            say(f"错误：{error}")
    if asking:
        print("再见。")


def _load_history() -> None:
    try:
        import atexit
        import readline

        history = cache_root() / "history"
        history.parent.mkdir(parents=True, exist_ok=True)
        if history.exists():
            readline.read_history_file(history)
        readline.set_history_length(LINES_KEPT)
        atexit.register(readline.write_history_file, history)
    except (ImportError, OSError):
        pass  # no readline (Windows) or no home: the dialogue works without history
