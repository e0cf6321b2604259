"""The sections' pictures as files. Each becomes an SVG, whose text the reader's browser sets, and a PNG for slides.

A PNG needs a Chinese font on the machine that draws it; where there is none its words are English.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.evaluation.drawing import GREY, INK, Picture, Say
from zhsenti.evaluation.sections.base import AnySection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC", "Hiragino Sans GB",
    "Microsoft YaHei", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Heiti SC", "Noto Sans CJK JP",
)  # fmt: skip


def draw_all(sections: Sequence[AnySection], folder: Path) -> list[dict[str, str]]:
    """Draw every picture into ``folder``, from which those of an earlier run are removed.

    Returns:
        For each section: name of a picture -> its SVG for an HTML page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink(missing_ok=True)
    return [
        {name: render(name, picture, folder) for name, picture in section.pictures().items()} for section in sections
    ]


def render(name: str, picture: Picture, folder: Path) -> str:
    """Draw one picture into ``folder/name.png``.

    Returns:
        The SVG for an HTML page: Chinese, no ids that could clash.
    """
    from matplotlib import rc_context

    font = chinese_font()
    style: dict[Any, Any] = {  # matplotlib's own type for it is a union of 300 literal names
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
        "font.family": [font or "DejaVu Sans"],
    }
    svg = io.StringIO()
    with warnings.catch_warnings(), rc_context(style):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser sets the SVG's text
        figure = _drawn(picture, lambda zh, en: zh)
        figure.savefig(svg, format="svg", metadata={"Date": None})
        if not font:
            figure = _drawn(picture, lambda zh, en: en)
        figure.savefig(folder / f"{name}.png", dpi=150)
    return _for_html(svg.getvalue(), name)


def _drawn(picture: Picture, say: Say) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=picture.size, layout="constrained")
    picture.draw(figure, say)
    return figure


def chinese_font() -> str | None:
    """The first of ``FONTS`` that this machine has; None where it has none of them."""
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
