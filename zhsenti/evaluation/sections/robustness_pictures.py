"""The picture of the section on robustness: two charts of bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.evaluation.drawing import BLUE, INK, ORANGE, Picture, Say
from zhsenti.evaluation.schema import Interval
from zhsenti.evaluation.sections.challenge import Category
from zhsenti.evaluation.sections.flips import FlipRate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Words = tuple[str, str]  # Chinese, English


@dataclass(frozen=True)
class Chart:
    """Bars below each other.

    Attributes:
        title: Under the axis.
        colour: Of the bars.
        rows: Name, value and interval of each bar; shares.
    """

    title: Words
    colour: str
    rows: list[tuple[Words, float, Interval]]


def robustness(categories: dict[str, Category], flips: dict[str, FlipRate]) -> Picture | None:
    """Challenge accuracy by category, and flip rates; None where there is neither.

    Args:
        categories: Key -> kind of sentence; those that are not scored are left out.
        flips: Key -> kind of change.
    """
    charts = []
    scored = [
        ((item.title, key), item.accuracy, item.accuracy_ci95 or (0.0, 0.0))
        for key, item in categories.items()
        if item.accuracy is not None
    ]
    if scored:
        charts.append(Chart(("挑战集准确率，%", "challenge accuracy, %"), BLUE, scored))
    changed = [((item.title, key), item.rate, item.ci95) for key, item in flips.items()]
    if changed:
        charts.append(Chart(("扰动后改判的比例，%", "flipped by a change, %"), ORANGE, changed))
    if not charts:
        return None
    height = 1.4 + 0.27 * sum(len(chart.rows) for chart in charts)
    return Picture(lambda figure, say: _draw(figure, say, charts), (6.4, height))


def _draw(figure: Figure, say: Say, charts: Sequence[Chart]) -> None:
    heights = [len(chart.rows) for chart in charts]
    grid = figure.subplots(len(charts), 1, height_ratios=heights, squeeze=False)
    for axes, chart in zip(grid.ravel(), charts, strict=True):
        y = np.arange(len(chart.rows))[::-1]
        values = np.array([100 * value for _, value, _ in chart.rows])
        ends = np.array([[100 * end for end in ci] for _, _, ci in chart.rows])
        axes.barh(y, values, color=chart.colour, height=0.62, alpha=0.85)
        spread = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
        axes.errorbar(values, y, xerr=spread, fmt="none", color=INK, elinewidth=0.8)
        axes.set_yticks(y, [say(*name) for name, _, _ in chart.rows])
        axes.set(xlabel=say(*chart.title), xlim=(0, 100))
