"""What every page and card is made with: one template environment, and Markdown that runs nothing."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """The package's templates; in HTML every value is escaped, in Markdown by the filter ``md``; a missing one is an
    error."""
    made = Environment(
        loader=PackageLoader("zhsenti.evaluation"),
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"md": markdown, "code": code}
    return made


def markdown(text: object) -> str:
    """``text`` as Markdown that shows it: no link, image, tag or heading, one line."""
    return re.sub(r"([\\`*_\[\]<>#|!~])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """``text`` as what stands in a Markdown code span: no backtick ends it, a line end is shown as \\n."""
    return str(text).replace("`", "'").replace("\n", "\\n").replace("\r", " ")
