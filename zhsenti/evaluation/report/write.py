"""From computed sections to files: tables, pictures, one offline HTML page and a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from zhsenti.core.console import say, tell
from zhsenti.core.files import write_text
from zhsenti.core.templates import environment
from zhsenti.evaluation.report.card import store_card, write_card
from zhsenti.evaluation.report.parts import render_part
from zhsenti.evaluation.report.pictures import draw_all
from zhsenti.evaluation.report.verdict import Verdict, verdict
from zhsenti.evaluation.run import Run
from zhsenti.evaluation.sections.base import AnySection

REPORT, CARD_COPY, PLOTS = "report.html", "model_card.md", "plots"


def write_report(run: Run, sections: Sequence[AnySection]) -> list[str]:
    """Write all of it, and say on the console what it comes to.

    Args:
        run: The evaluation.
        sections: Its sections, computed, in the order in which they are read.

    Returns:
        The names of the files, in the results' folder.
    """
    tables = [name for section in sections for name in section.write_tables()]
    judged = verdict(sections)
    pictures = draw_all(sections, run.folder / PLOTS)
    write_text(run.folder / REPORT, page(run, sections, judged, pictures))
    write_card(run.folder / CARD_COPY, run, sections, judged)
    if not run.config.quick and run.data.same and len(run.true) == len(run.data.whole.test):
        say(store_card(run.folder / CARD_COPY, run.artifact), indent=1)
    tell(f"\n{judged.headline}")
    for sentence in judged.weak:
        tell(f"  · {sentence}")
    return [*tables, CARD_COPY, f"{PLOTS}/", REPORT]


def page(run: Run, sections: Sequence[AnySection], judged: Verdict, pictures: Sequence[Mapping[str, str]]) -> str:
    """report.html. Pictures are our own SVG (matplotlib escapes the words in them), all else is escaped.

    Args:
        run: The evaluation.
        sections: Its sections.
        judged: The first screen.
        pictures: For each section name -> SVG.
    """
    from markupsafe import Markup

    parts = [
        Markup(render_part(section, section.template, svgs)) for section, svgs in zip(sections, pictures, strict=True)
    ]
    template = environment("zhsenti.evaluation").get_template("report.html.j2")
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return template.render(verdict=judged, run=run, parts=parts, made=made)
