"""Names that users type -> what does the work, imported only when asked for: ``--help`` lists names without torch.

A new entry is one line, in the registry's own file or from outside::

    METHODS["mine"] = "my_package.my_module:Mine"
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from zhsenti.core.errors import ConfigError

T = TypeVar("T")


class Registry(dict[str, str | T], Generic[T]):
    """A dict from name to "module:attribute", or to the object itself; names stay in the order of registration.

    ``Registry[type[Method]]`` says what ``load`` gives.

    Args:
        kind: What the entries are, in Chinese, for the message about an unknown name: "方法".
        entries: The first entries.

    Attributes:
        kind: As given.
    """

    def __init__(self, kind: str, entries: Mapping[str, str | T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def load(self, name: str) -> T:
        """The object called ``name``, imported if need be.

        Raises:
            ConfigError: There is no such name; the message lists those there are and the one that is most like it.
            ImportError: The entry's module is missing, or a library that it needs.
            AttributeError: The module has no such attribute.
        """
        if name not in self:
            near = difflib.get_close_matches(name, self, n=1, cutoff=0.5)
            raise ConfigError(
                f"没有叫 {name} 的{self.kind}",
                expected="、".join(self),
                todo=f"是否指 {near[0]}？" if near else "",
            )
        entry = self[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))
