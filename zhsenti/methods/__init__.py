"""The registry of methods. Names cost nothing to list; a method is imported, and torch with it, when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zhsenti.core.paths import ADAPTER, run_folder
from zhsenti.core.registry import Registry

if TYPE_CHECKING:
    from zhsenti.methods.base import Method

METHODS: Registry[type[Method]] = Registry(
    "方法",
    {
        "label_scoring": "zhsenti.methods.label_scoring:LabelScoring",
        "classifier_head": "zhsenti.methods.classifier_head:ClassifierHead",
    },
)
DEFAULT = "label_scoring"  # what is trained where nobody says otherwise
ZERO_SHOT = "label_scoring"  # what scores with a bare base
DEFAULT_ADAPTER = f"./{run_folder(DEFAULT)}/{ADAPTER}"


def get_method(name: str) -> type[Method]:
    """The method called ``name``.

    Raises:
        ConfigError: There is none of this name; the message lists those there are.
    """
    return METHODS.load(name)
