"""What the adapter must beat, on the same rows. A new baseline is one file and one line in ``BASELINES``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import split_names
from zhsenti.core.registry import Registry

if TYPE_CHECKING:
    from zhsenti.evaluation.systems import Context, System

NONE = "none"

BASELINES: Registry[Callable[[Context], System]] = Registry(
    "基线",
    {
        "majority": "zhsenti.evaluation.baselines.majority:majority",
        "snownlp": "zhsenti.evaluation.baselines.naive_bayes:snownlp",
        "tfidf": "zhsenti.evaluation.baselines.linear:tfidf",
        "zero_shot": "zhsenti.evaluation.baselines.zero_shot:zero_shot",
    },
)


def parse_baselines(text: str) -> list[str]:
    """Read ``"majority,tfidf"`` or ``"none"``.

    Returns:
        The names, in the registry's order.

    Raises:
        ConfigError: A name is unknown, or none is given; the message lists the valid ones.
    """
    names = [name.lower().replace("-", "_") for name in split_names(text)]
    unknown = [name for name in names if name not in BASELINES and name != NONE]
    if unknown or not names or (NONE in names and len(names) > 1):
        raise ConfigError(
            f"--baselines 有误：{'、'.join(unknown) or text or '（空）'}",
            expected="逗号分隔：" + "、".join(BASELINES) + f"；或单独一个 {NONE}",
            found=text,
        )
    return [name for name in BASELINES if name in names]


def build_baselines(names: Sequence[str], context: Context) -> list[System]:
    """The baselines called ``names`` as systems; one that does not apply says why."""
    return [BASELINES.load(name)(context) for name in names]
