"""What every section is given: sizes, reviews, time, and where it writes down what it found."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from gpu_sections import STARTED
from gpu_sections.sizes import SIZES, TINY, Size
from zhsenti.models.precision import Precision


class TimeUp(BaseException):
    """The time of the whole script is over; no Exception, so that nothing on the way takes it for its own trouble."""


class Deadline:
    """A moment, and what was left out for its sake."""

    def __init__(self, end: float) -> None:
        self.end, self.skipped = end, list[str]()

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def allows(self, seconds: float, what: str) -> bool:
        """Whether ``seconds`` are left; if not, ``what`` (Chinese) is noted as skipped."""
        if self.left() >= seconds:
            return True
        self.skipped.append(what)
        return False

    def part(self, share: float) -> Deadline:
        """An earlier one, after ``share`` of the time that is left."""
        return Deadline(time.monotonic() + max(0.0, self.left()) * share)

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Inside, ``TimeUp`` is raised when the moment has come, where the system has alarms."""
        if not hasattr(signal, "setitimer"):
            yield
            return

        def ring(number: int, frame: object) -> None:
            raise TimeUp

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 0.001))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Attributes:
        sizes: Shapes by name; the tiny ones bear the names of those that they stand for.
        max_length: Longest prompt in tokens.
        shorten: What the lengths of real reviews are divided by.
        compared: Reviews in the comparison of log-probabilities.
        differentiated: Reviews in the comparison of gradients.
        curve: Updates of a loss curve.
        turn: Updates a turn of the speed measurement.
        turns: Turns.
        scored: Reviews scored a turn.
        textbook_scored: Of these by one pass a label word.
        batched_scored: Of these by batches of 32.
        gemm: Side of the square product that the peak is measured with.
        repeats: Of a measurement by the stopwatch.
        least_seconds: Without these no section and no measurement is begun.
    """

    sizes: dict[str, Size]
    max_length: int
    shorten: int
    compared: int
    differentiated: int
    curve: int
    turn: int
    turns: int
    scored: int
    textbook_scored: int
    batched_scored: int
    gemm: int
    repeats: int
    least_seconds: float

    def settings(self) -> dict[str, Any]:
        return asdict(self)


FULL = Scale(SIZES, 256, 1, 128, 16, 20, 10, 3, 2400, 24, 640, 8192, 10, 8.0)
SMOKE = Scale(TINY, 64, 4, 128, 8, 3, 2, 1, 24, 2, 8, 256, 2, 0.5)


@dataclass
class Options:
    """A section's share of the script.

    Attributes:
        scale: How much is computed.
        smoke: Whether the shapes are tiny and nothing is said about speed.
        precision: What the product computes in on this device.
        deadline: When the section should be done.
        lengths: Of real prompts, in tokens; drawn from the histogram.
        figures: Name -> number: the section's results, filled as they come.
        failures: What is wrong (Chinese); the section has passed when this stays empty.
        targets: What is hoped for, and whether it is so; no failure where it is not.
    """

    scale: Scale
    smoke: bool
    precision: Precision
    deadline: Deadline
    lengths: list[int]
    figures: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def allows(self, what: str, seconds: float | None = None) -> bool:
        """Whether there is time for ``what`` (Chinese), which takes ``seconds`` with full shapes; else it is noted."""
        least = self.scale.least_seconds
        return self.deadline.allows(least if seconds is None or self.smoke else seconds, what)

    def check(self, passed: bool, fault: str) -> None:
        """Note ``fault`` (Chinese) unless ``passed``."""
        if not passed:
            self.failures.append(fault)
            say(f"不对：{fault}")

    def attempt(self, what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``work`` finds; what it raises is a failure of ``what`` (Chinese), and does not cost the rest."""
        try:
            return work()
        except Exception as error:
            self.check(False, f"{what} 出错：{type(error).__name__}: {str(error)[:300]}")
            return {"error": f"{type(error).__name__}: {error}"[:2000], "traceback": traceback.format_exc()[-4000:]}

    def target(self, name: str, wanted: float, *, at_most: bool = False) -> None:
        """Note whether a figure is as hoped for; with tiny shapes it says nothing and is left out."""
        if name in self.figures and not self.smoke:
            value = self.figures[name]
            met = value <= wanted if at_most else value >= wanted
            self.targets.append({"name": name, "value": value, "wanted": wanted, "at_most": at_most, "met": met})


def say(line: str) -> None:
    """A line of progress, with the seconds since the start."""
    print(f"  [{time.monotonic() - STARTED:6.1f} 秒] {line}", flush=True)
