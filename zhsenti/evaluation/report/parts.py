"""A section's part of the page or of the card, from the template beside the section's own file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

from zhsenti.core.templates import environment
from zhsenti.evaluation.sections.base import AnySection
from zhsenti.evaluation.wording import ends, interval, percent

HERE = "here"  # the section's own folder, so that its names hide nobody else's


def render_part(section: AnySection, template: str, pictures: Mapping[str, str] | None = None) -> str:
    """The template with the section's result in it.

    Args:
        section: One that has been computed.
        template: Name of a file beside the section's class.
        pictures: Name -> SVG of its pictures; all our own.

    Raises:
        jinja2.TemplateNotFound: There is no such file.
        jinja2.UndefinedError: The template uses a name that it is not given.
    """
    from jinja2 import FileSystemLoader, PrefixLoader
    from markupsafe import Markup

    folder = Path(inspect.getfile(type(section))).parent
    templates = environment(*section.packages, loaders=[PrefixLoader({HERE: FileSystemLoader(folder)})])
    templates.filters |= {"percent": percent, "interval": interval, "ends": ends}
    return templates.get_template(f"{HERE}/{template}").render(
        result=section.result,
        run=section.run,
        pictures={name: Markup(svg) for name, svg in (pictures or {}).items()},
        **section.context(),
    )
