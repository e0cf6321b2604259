"""Pictures of the section on confidence: are probabilities honest, and what does a threshold buy?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.evaluation.drawing import BLUE, GREY, ORANGE, Picture, Say
from zhsenti.evaluation.sections.calibration import Quality
from zhsenti.evaluation.sections.thresholds import CoveragePoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability(before: Quality, after: Quality) -> Picture:
    """Accuracy against confidence in equal-mass bins, before and after the temperature; the diagonal is honest."""

    def draw(figure: Figure, say: Say) -> None:
        axes = figure.add_subplot()
        low = min(item.confidence for item in [*before.bins, *after.bins])
        low = min(low, *(item.accuracy for item in [*before.bins, *after.bins])) - 0.03
        axes.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":")
        for quality, colour, marker, name in (
            (before, GREY, "o", say("校准前", "before")),
            (after, BLUE, "s", say("校准后", "after")),
        ):
            x = [item.confidence for item in quality.bins]
            y = [item.accuracy for item in quality.bins]
            bars = np.array(
                [
                    [item.accuracy - item.accuracy_ci95[0], item.accuracy_ci95[1] - item.accuracy]
                    for item in quality.bins
                ]
            )
            axes.errorbar(
                x,
                y,
                yerr=np.maximum(bars.T, 0),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1,
                elinewidth=0.6,
                label=f"{name}  ECE {quality.ece:.3f}",
            )
        axes.set(xlabel=say("给出的概率", "confidence"), ylabel=say("实际准确率", "accuracy"))
        axes.legend(frameon=False, loc="upper left")

    return Picture(draw)


def coverage(points: Sequence[CoveragePoint], precision: float) -> Picture:
    """Accuracy of what the machine decides against the share it decides; the precision asked for is a dashed line."""

    def draw(figure: Figure, say: Say) -> None:
        axes = figure.add_subplot()
        x = [100 * point.coverage for point in points]
        axes.fill_between(
            x,
            [100 * point.accuracy_ci95[0] for point in points],
            [100 * point.accuracy_ci95[1] for point in points],
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(x, [100 * point.accuracy for point in points], color=BLUE, marker="o", markersize=3)
        axes.axhline(100 * precision, color=ORANGE, linewidth=1, linestyle="--")
        axes.set(
            xlabel=say("机器自己判的比例，%", "decided by the machine, %"),
            ylabel=say("这部分的准确率，%", "accuracy there, %"),
        )

    return Picture(draw)
