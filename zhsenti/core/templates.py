"""What every page and card is made with: one jinja2 environment, and Markdown that runs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment


def environment(*packages: str, loaders: Sequence[BaseLoader] = ()) -> Environment:
    """Templates of zhsenti.core, then of ``packages``, then of ``loaders``: the first that has a name gives it.

    In HTML every value is escaped; in ``*.md.j2`` none is, and the filters ``md`` and ``code`` do it. Rendering with a
    variable missing raises ``jinja2.UndefinedError``.

    Args:
        packages: Names of packages with a folder ``templates``, such as "zhsenti.audit".
        loaders: More places, such as a ``jinja2.DictLoader``.

    Raises:
        ModuleNotFoundError: A package does not exist.
        ValueError: A package has no folder ``templates``.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([*map(PackageLoader, ("zhsenti.core", *packages)), *loaders]),
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
