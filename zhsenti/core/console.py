"""What a command says while it works: lines, bars and durations, on standard error.

On a terminal the bars of a ``Progress`` are drawn; elsewhere (a log, CI, a pipe) each of them says a line now and then.
Nothing here fails because nobody listens: a closed standard error costs the lines, not the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import RLock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from zhsenti.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, Task, TaskID
    from rich.progress_bar import ProgressBar
    from rich.text import Text

TELL_EVERY = 30.0  # seconds between two lines where no bar can be drawn
REDRAWS_PER_SECOND = 4.0

_drawing: list[Console] = []  # consoles with live bars; say() prints above them


def say(line: str, *, indent: int = 0) -> None:
    """One line for the user, as it is (no markup, no wrapping), above the bars if some are drawn.

    Args:
        line: In Chinese, without its end.
        indent: Levels, of two spaces each.
    """
    if sys.stderr is None:  # a program without a console; print() would take standard output for it
        return
    text = printable("  " * indent + line)
    with suppress(OSError, ValueError):
        if _drawing:
            _drawing[-1].print(text, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Lines of a result for the user, on standard output."""
    print(printable(text), flush=True)


def plain_console(*, stderr: bool = False) -> Console:
    """Where tables and coloured text are printed: nothing in a text is markup, the name of an emoji or a command."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False)


def duration(seconds: float) -> str:
    """A span of time as people say it: "3 小时 5 分", "4 分 10 秒", "12 秒"."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} 小时 {minutes} 分"
    return f"{minutes} 分 {rest} 秒" if minutes else f"{rest} 秒"


def gigabytes(size: float) -> str:
    """``size`` in bytes as "4.2 GB" (10^9 bytes), or as "35.0 MB" below 0.1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Progress:
    """Bars on a terminal; elsewhere a line at most every ``TELL_EVERY`` seconds. A context manager.

    ::

        with Progress() as progress:
            bar = progress.add("适配器打分", len(texts))
            predictor.log_probs(texts, progress=bar.advance)

    Args:
        transient: Take the bars away at the end instead of leaving them as they ended.
    """

    def __init__(self, *, transient: bool = False) -> None:
        self._transient = transient
        self._display: RichProgress | None = None
        self._tasks: dict[Bar, TaskID] = {}
        self._told = monotonic()

    def __enter__(self) -> Progress:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to draw, for callers that have no ``with`` block; ``stop`` must follow."""
        self._told = monotonic()
        if _is_terminal():
            self._display = _display(self._transient)
            self._display.start()
            _drawing.append(self._display.console)

    def stop(self) -> None:
        """End drawing. Lines of ``say`` go to standard error itself again."""
        if self._display is not None:
            display, self._display = self._display, None
            _drawing.remove(display.console)
            with suppress(OSError, ValueError):  # the terminal has gone
                display.stop()

    def add(
        self,
        title: str,
        total: float | None,
        *,
        unit: str = "条",
        done: float = 0.0,
        note: str = "",
        share: float | None = None,
    ) -> Bar:
        """A new bar below the others, its clock running; to be called after ``start``. Arguments: see ``Bar``."""
        bar = Bar(title, total, done, unit, note, share, self)
        bar.begin()
        if self._display is not None:
            self._tasks[bar] = self._display.add_task("", total=None, bar=bar)
        return bar

    def _remove(self, bar: Bar) -> None:
        if self._display is not None and bar in self._tasks:
            self._display.remove_task(self._tasks.pop(bar))

    def _tell(self, bar: Bar, *, now: bool) -> None:
        """Say ``bar``'s line where nothing is drawn and it is time for one, or at once."""
        if self._display is None and (now or monotonic() - self._told >= TELL_EVERY):
            self._told = monotonic()
            say(bar.line(), indent=1)


@dataclass(eq=False)
class Bar:
    """How far one piece of work is; ``Progress.add`` makes it. May be moved from another thread.

    Rate and time left are those of this run: what was done when the clock began (``begin``) took no time.

    Attributes:
        title: What is being done (Chinese). May be changed, as all of these.
        total: How much there is, in ``unit``; None where nobody knows.
        done: How much of it is done; ``advance`` and ``set`` move it.
        unit: What is counted.
        note: Whatever else there is to say, such as the loss.
        share: Of the work that is done, from 0 to 1, where ``done / total`` would mislead: texts are counted in rows
            and take time by their characters; a file's rows are not known before its end. None: ``done / total``.
    """

    title: str
    total: float | None
    done: float
    unit: str
    note: str
    share: float | None
    _progress: Progress
    _lock: RLock = field(default_factory=RLock)
    _began: float = 0.0
    _moved: float = 0.0
    _first: tuple[float, float] = (0.0, 0.0)  # done and share when the clock began
    _rate: float | None = None  # units per second
    _left: float | None = None  # seconds, counted from _moved on

    def begin(self) -> None:
        """Start the clock again: loading a model, say, is over, and the work itself begins."""
        with self._lock:
            self._began = self._moved = monotonic()
            self._first = self.done, self._share() or 0.0
            self._rate = self._left = None

    def advance(self, number: float = 1.0, *, share: float = 0.0) -> None:
        """``number`` units more are done, and ``share`` (0 to 1) more of the work."""
        with self._lock:
            self.done += number
            if share:
                self.share = (self.share or 0.0) + share
            self._move()

    def set(self, done: float, *, share: float | None = None) -> None:
        """``done`` units are done in all, and ``share`` (0 to 1) of the work; None leaves the share as it is."""
        with self._lock:
            self.done = done
            self.share = self.share if share is None else share
            self._move()

    def finish(self) -> None:
        """All is done, whatever was counted; the rate stays what it was."""
        with self._lock:
            self.done = self.total = self.done if self.total is None else self.total
            self.share = None if self.share is None else 1.0
            self._left = None

    def remove(self) -> None:
        """Take the bar off the display."""
        self._progress._remove(self)

    def tell(self) -> None:
        """Say ``line()`` now where no bar is drawn, and the next one of its own accord ``TELL_EVERY`` seconds later."""
        self._progress._tell(self, now=True)

    def line(self) -> str:
        """All of it as text, as a log gets it: "训练 10/60 步  2.1 秒/步  损失 0.53  剩余 1 分 45 秒"."""
        head = f"{self.title} {self._counts()}".strip()
        return "  ".join(filter(None, [head, self._speed(), self.note, self._time_left()]))

    def _move(self) -> None:
        self._moved = monotonic()
        seconds, share = self._moved - self._began, self._share()
        fresh, fresh_share = self.done - self._first[0], (share or 0.0) - self._first[1]
        self._rate = fresh / seconds if fresh > 0 and seconds > 0 else None
        self._left = seconds * (1 - share) / fresh_share if share is not None and fresh_share > 0 else None
        self._progress._tell(self, now=False)

    def _share(self) -> float | None:
        share, total = self.share, self.total
        if share is None and total is not None:
            share = self.done / total if total else 1.0
        return None if share is None else min(max(share, 0.0), 1.0)

    def _counts(self) -> str:
        share = "" if self.share is None else f"{self._share():.0%}"
        total = self.total
        of = "" if total is None else f"/{total:,.0f}"
        counted = f"{self.done:,.0f}{of} {self.unit}".strip() if of or self.done else ""
        return "  ".join(filter(None, [share, counted]))

    def _speed(self) -> str:
        rate = self._rate  # the drawing thread reads while another one may write
        if rate is None:
            return ""
        return f"{rate:,.1f} {self.unit}/秒" if rate >= 1 else f"{1 / rate:,.1f} 秒/{self.unit}"

    def _time_left(self) -> str:
        left = self._left
        return f"剩余 {duration(left - (monotonic() - self._moved))}" if left else ""


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_terminal() -> bool:
    """Whether bars can be drawn: standard error is a terminal that can move its cursor."""
    return _is_tty(sys.stderr) and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _is_tty(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _display(transient: bool) -> RichProgress:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True, force_terminal=True, highlight=False, markup=False, emoji=False)
    return RichProgress(
        *_columns(wide=console.width >= 100),
        console=console,
        transient=transient,
        refresh_per_second=REDRAWS_PER_SECOND,
        redirect_stdout=_is_tty(sys.stdout),  # results in a pipe stay in the pipe
    )


def _columns(*, wide: bool) -> list[ProgressColumn]:
    """Title, bar, figures, note and time left. Where a terminal is narrow the note gives way first."""
    from rich.progress import ProgressColumn
    from rich.progress_bar import ProgressBar
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        def __init__(self, words: Callable[[Bar], str], *, gives_way: bool = False) -> None:
            super().__init__(Column(no_wrap=not gives_way))
            self.words = words

        def render(self, task: Task) -> Text:
            return Text(printable(self.words(task.fields["bar"])), no_wrap=True, overflow="ellipsis")

    class Drawn(ProgressColumn):
        def render(self, task: Task) -> ProgressBar:
            share = task.fields["bar"]._share()
            return ProgressBar(1.0, share or 0.0, width=20 if wide else 10, pulse=share is None)

    return [
        Words(lambda bar: bar.title),
        Drawn(),
        Words(lambda bar: "  ".join(filter(None, [bar._counts(), bar._speed()]))),
        Words(lambda bar: bar.note, gives_way=True),
        Words(lambda bar: bar._time_left()),
    ]
