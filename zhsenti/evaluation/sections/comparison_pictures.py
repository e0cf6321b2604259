"""Pictures of the comparison: who finds how much at which price, and which label is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from zhsenti.evaluation.drawing import BLUE, GREEN, GREY, INK, ORANGE, RED, Picture, Say
from zhsenti.evaluation.run import Run
from zhsenti.evaluation.schema import Scores
from zhsenti.prediction.temperature import scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, GREY, RED, "#7b4fa3", "#8c6d1f", "#2a8c9a")


def curves(run: Run) -> dict[str, Picture]:
    """ROC and precision-recall curves of all systems that rank rows; for two labels, both among the test rows."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    positive, true = run.rows.labels[1], run.true == 1
    systems: list[tuple[tuple[str, str], np.ndarray]] = []
    for system in reversed(run.systems):
        if system.gives_scores and system.name in run.compared.scored:
            log_probs = scale(run.compared.scored[system.name].log_probs, 1.0)
            title = (system.title, system.english or system.title)
            systems.append((title, log_probs[:, 1] - log_probs[:, 0]))

    def roc(figure: Figure, say: Say) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for (title, score), colour in zip(systems, cycle(COLOURS), strict=False):
            false, hit, _ = roc_curve(true, score)
            axes.plot(false, hit, color=colour, label=say(*title))
        axes.set(xlabel=say("误判为正的比例", "false positive rate"), ylabel=say("找出的比例", "true positive rate"))
        axes.legend(frameon=False, loc="lower right")

    def pr(figure: Figure, say: Say) -> None:
        axes = figure.add_subplot()
        for (title, score), colour in zip(systems, cycle(COLOURS), strict=False):
            precision, recall, _ = precision_recall_curve(true, score)
            axes.plot(recall, precision, color=colour, label=say(*title))
        axes.set(xlabel=say(f"召回率（{positive}）", "recall"), ylabel=say(f"精确率（{positive}）", "precision"))
        axes.set_ylim(0, 1.01)
        axes.legend(frameon=False, loc="lower left")

    return {"roc": Picture(roc), "pr": Picture(pr)}


def confusion(scores: Scores, labels: Sequence[str]) -> Picture:
    """The confusion matrix: rows are true labels, columns are predicted ones."""

    def draw(figure: Figure, say: Say) -> None:
        axes = figure.add_subplot()
        counts = np.array(scores.confusion)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        edges = np.arange(len(labels) + 1) - 0.5
        axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)  # vectors: the page may hold no image
        axes.invert_yaxis()
        axes.set_aspect("equal")
        for i, j in np.ndindex(*counts.shape):
            colour = "white" if shares[i, j] > 0.6 else INK
            axes.text(j, i, f"{counts[i, j]}\n{shares[i, j]:.1%}", ha="center", va="center", color=colour)
        names = [say(label, f"class {k}") for k, label in enumerate(labels)]
        axes.set_xticks(range(len(labels)), names)
        axes.set_yticks(range(len(labels)), names, rotation=90, va="center")
        axes.set(xlabel=say("预测", "predicted"), ylabel=say("真实", "true"))

    size = 2.6 + 0.5 * len(labels)
    return Picture(draw, (size + 0.6, size))
