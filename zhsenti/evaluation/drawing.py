"""What sections and the report agree on about pictures: a function draws, the report makes an SVG and a PNG of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, BLUE, ORANGE, GREY, RED, GREEN = "#1f2933", "#2563a8", "#c2571a", "#9aa5b1", "#b3261e", "#2e7d4f"

Say = Callable[[str, str], str]  # (Chinese, English) -> the one to draw
Draw = Callable[["Figure", Say], None]


@dataclass(frozen=True)
class Picture:
    """One picture of a section.

    Attributes:
        draw: Draws it into a figure, all words through its second argument.
        size: Width and height in inches.
    """

    draw: Draw
    size: tuple[float, float] = (5.2, 3.8)
