"""The report's pictures. Each is drawn as SVG, whose text the reader's browser sets, and as PNG for slides and cards.

A PNG needs a Chinese font on the machine that draws it; where there is none its words are English.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from zhsenti.evaluation.schema import ConfidenceFile, RobustnessFile, Scores

FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC", "Hiragino Sans GB",
    "Microsoft YaHei", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Heiti SC", "Noto Sans CJK JP",
)  # fmt: skip
INK, BLUE, ORANGE, GREY, RED, GREEN = "#1f2933", "#2563a8", "#c2571a", "#9aa5b1", "#b3261e", "#2e7d4f"
Say = Callable[[str, str], str]  # (Chinese, English) -> the one to draw
Draw = Callable[[Any, Say], None]


def render(name: str, draw: Draw, folder: Path, size: tuple[float, float] = (5.2, 3.6)) -> str:
    """Draw into ``folder/name.png``; return the SVG for an HTML page (Chinese, no ids that could clash)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    font = chinese_font()
    style: dict[Any, Any] = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "font.size": 10,
        "axes.unicode_minus": False,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a label may hold a dollar sign
        "svg.hashsalt": name,
    }
    svg = io.StringIO()
    with warnings.catch_warnings(), rc_context({**style, "font.family": [font or "DejaVu Sans"]}):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser sets the SVG's text
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, lambda zh, en: zh)
        figure.savefig(svg, format="svg", metadata={"Date": None})
        if not font:
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, lambda zh, en: en)
        figure.savefig(folder / f"{name}.png", dpi=150)
    return _for_html(svg.getvalue(), name)


def chinese_font() -> str | None:
    from matplotlib import font_manager

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    known = {item.name for item in font_manager.fontManager.ttflist}
    return next((name for name in FONTS if name in known), None)


def _for_html(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", svg)  # ids must be unique in the page
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 sans-serif", svg)
    return re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img" class="plot">', svg, count=1)


def roc_and_pr(curves: Sequence[tuple[str, np.ndarray, np.ndarray]], positive: str) -> tuple[Draw, Draw]:
    """``curves``: title, true (N,) booleans for ``positive``, score (N,)."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    colours = (BLUE, ORANGE, GREEN, GREY, RED, "#7b4fa3", "#8c6d1f", "#2a8c9a")

    def roc(figure: Any, say: Say) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for (title, true, score), colour in zip(curves, cycle(colours), strict=False):
            false, hit, _ = roc_curve(true, score)
            axes.plot(false, hit, color=colour, label=_plain(title, say))
        axes.set(xlabel=say("误判为正的比例", "false positive rate"), ylabel=say("找出的比例", "true positive rate"))
        axes.legend(frameon=False, loc="lower right")

    def pr(figure: Any, say: Say) -> None:
        axes = figure.add_subplot()
        for (title, true, score), colour in zip(curves, cycle(colours), strict=False):
            precision, recall, _ = precision_recall_curve(true, score)
            axes.plot(recall, precision, color=colour, label=_plain(title, say))
        axes.set(xlabel=say(f"召回率（{positive}）", "recall"), ylabel=say(f"精确率（{positive}）", "precision"))
        axes.set_ylim(0, 1.01)
        axes.legend(frameon=False, loc="lower left")

    return roc, pr


ENGLISH = {
    "标签打分 + LoRA": "label scoring + LoRA",
    "分类头 + LoRA": "classifier head + LoRA",
    "零样本": "zero-shot",
    "多数类": "majority",
}


def _plain(title: str, say: Say) -> str:
    english = title
    for chinese, word in ENGLISH.items():
        english = english.replace(chinese, word)
    return say(title, english.replace("（", " (").replace("）", ")"))


def confusion(scores: Scores, labels: Sequence[str]) -> Draw:
    def draw(figure: Any, say: Say) -> None:
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

    return draw


def reliability(confidence: ConfidenceFile) -> Draw:
    """Accuracy against confidence in equal-mass bins, before and after the temperature; on the diagonal is honest."""

    def draw(figure: Any, say: Say) -> None:
        axes = figure.add_subplot()
        low = min(item.confidence for item in [*confidence.before.bins, *confidence.after.bins])
        low = min(low, *(item.accuracy for item in [*confidence.before.bins, *confidence.after.bins])) - 0.03
        axes.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":")
        for quality, colour, marker, name in (
            (confidence.before, GREY, "o", say("校准前", "before")),
            (confidence.after, BLUE, "s", say("校准后", "after")),
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

    return draw


def coverage(confidence: ConfidenceFile) -> Draw:
    """Accuracy of what the machine decides against the share it decides."""

    def draw(figure: Any, say: Say) -> None:
        axes = figure.add_subplot()
        x = [100 * point.coverage for point in confidence.coverage]
        axes.fill_between(
            x,
            [100 * point.accuracy_ci95[0] for point in confidence.coverage],
            [100 * point.accuracy_ci95[1] for point in confidence.coverage],
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(x, [100 * point.accuracy for point in confidence.coverage], color=BLUE, marker="o", markersize=3)
        axes.axhline(100 * confidence.target.precision, color=ORANGE, linewidth=1, linestyle="--")
        axes.set(
            xlabel=say("机器自己判的比例，%", "decided by the machine, %"),
            ylabel=say("这部分的准确率，%", "accuracy there, %"),
        )

    return draw


def robustness(results: RobustnessFile) -> Draw:
    """Challenge accuracy by category, and flip rates, each with its interval."""

    def draw(figure: Any, say: Say) -> None:
        parts = []
        if results.challenge:
            items = results.challenge.by_category.items()
            rows = [(say(c.title, k), c.accuracy, c.accuracy_ci95) for k, c in items if c.scored]
            parts.append((rows, say("挑战集准确率，%", "challenge accuracy, %"), BLUE))
        if results.flip_rate:
            rows = [(say(f.title, k), f.rate, f.ci95) for k, f in results.flip_rate.items()]
            parts.append((rows, say("扰动后改判的比例，%", "flipped by a change, %"), ORANGE))
        heights = [len(rows) for rows, _, _ in parts]
        for axes, (rows, title, colour) in zip(
            figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False).ravel(), parts, strict=True
        ):
            y = np.arange(len(rows))[::-1]
            values = np.array([100 * (value or 0) for _, value, _ in rows])
            ends = np.array([[100 * end for end in (ci or (0, 0))] for _, _, ci in rows])
            axes.barh(y, values, color=colour, height=0.62, alpha=0.85)
            spread = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
            axes.errorbar(values, y, xerr=spread, fmt="none", color=INK, elinewidth=0.8)
            axes.set_yticks(y, [name for name, _, _ in rows])
            axes.set(xlabel=title, xlim=(0, 100))

    return draw
