"""A command's flags are the fields of a dataclass: ``option`` declares one, ``flags_of`` lists them."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from zhsenti.core.flag_types import ValueType, not_allowed, value_type

FIRST_GROUP = "参数"
RESERVED = ("config", "help")
_OPTION = "option"  # the key in a field's metadata


def option(
    default: Any,
    text: str,
    *,
    group: str = "",
    metavar: str = "",
    choices: Collection[str] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    free: bool = False,
) -> Any:
    """Declare a dataclass field that is a flag and a YAML key.

    Args:
        default: The value where none is given; a list or dict is copied for each instance.
        text: One Chinese line with the unit. The help page adds the default, unless the line speaks of one (默认).
        group: The Chinese heading it stands under; without one, that of the field before.
        metavar: What the help page calls the value (路径, 列名, 秒), where the type's own word says too little.
        choices: The words allowed, in a collection or as a mapping's keys. They are looked up when needed, so that a
            registry may still grow.
        low: The least value allowed.
        high: The greatest value allowed.
        above: A limit that is itself not allowed.
        free: Any text is right: an empty one, NUL, half a character. For review texts, which are judged elsewhere.

    Returns:
        A dataclass field.
    """
    said = {
        "text": text,
        "group": group,
        "metavar": metavar,
        "choices": choices,
        "low": low,
        "high": high,
        "above": above,
        "free": free,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata={_OPTION: said})
    return field(default=default, metadata={_OPTION: said})


@dataclass(frozen=True)
class Flag:
    """One field as a flag: what ``option`` said, its type, its heading, and whether it takes words without a flag."""

    name: str
    type: ValueType
    default: Any
    text: str
    group: str = FIRST_GROUP
    metavar: str = ""
    choices: Collection[str] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    free: bool = False
    positional: bool = False

    @property
    def spellings(self) -> tuple[str, str]:
        """``--lora_r``, which the help page shows, and ``--lora-r``, which is accepted."""
        return f"--{self.name}", f"--{self.name.replace('_', '-')}"

    @property
    def words(self) -> tuple[str, ...]:
        """The words allowed now; none where anything goes."""
        return tuple(self.choices) or self.type.words

    def read(self, raw: Any) -> Any:
        """Turn a flag's text or a YAML value into the field's value.

        Args:
            raw: A text, True for a flag without a value, a list of texts, or whatever YAML holds.

        Returns:
            The value.

        Raises:
            ValueError: It is not allowed; the message is Chinese and goes after the flag's name.
        """
        if raw is None and self.type.optional:
            return None
        if self.free and isinstance(raw, str):
            return raw
        if raw is None or (_is_blank(raw) and self.default != ""):
            raise ValueError("是空的")
        if self.type.many and isinstance(raw, list) and any(map(_is_blank, raw)):
            raise ValueError("有一个是空的")
        value = self.type.read(raw)
        for item in value if self.type.many else [value]:
            self._check(item)
        return value

    def _check(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            raise not_allowed(value, self.words)
        if self.low is not None and value < self.low:
            raise ValueError(f"{value} 小于下限 {self.low:g}")
        if self.high is not None and value > self.high:
            raise ValueError(f"{value} 大于上限 {self.high}")
        if self.above is not None and value <= self.above:
            raise ValueError(f"{value} 不大于下限 {self.above:g}")


def _is_blank(raw: Any) -> bool:
    """Whether it is a text of nothing, as an unset variable of the shell gives."""
    return isinstance(raw, str) and not raw.strip()


def flags_of(cls: type, positional: str | None = None) -> dict[str, Flag]:
    """List the flags of a dataclass.

    Args:
        cls: The dataclass.
        positional: Name of the list field that takes words without a flag.

    Returns:
        The flags by name, in the order of the fields.

    Raises:
        TypeError: A field is not made by ``option``, has a type that no flag can have, or takes the name of a flag
            that every command has.
    """
    hints, groups = typing.get_type_hints(cls), _groups(cls)
    flags = {}
    for item in dataclasses.fields(cls):
        try:
            flags[item.name] = _flag(item, hints[item.name], groups[item.name], item.name == positional)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.{item.name}: {error}") from error
    if positional and positional not in flags:
        raise TypeError(f"{cls.__name__} has no field {positional}")
    return flags


def _flag(item: dataclasses.Field[Any], hint: Any, group: str, positional: bool) -> Flag:
    if item.name in RESERVED:
        raise TypeError("every command has a flag of this name")
    if _OPTION not in item.metadata:
        raise TypeError("declare it with option()")
    said, kind = item.metadata[_OPTION], value_type(hint)
    if said["free"] and hint not in (str, str | None):
        raise TypeError("only a text can be free")
    if positional and not kind.many:
        raise TypeError("only a list can be positional")
    default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    return Flag(item.name, kind, default, **{**said, "group": group}, positional=positional)


def _groups(cls: type) -> dict[str, str]:
    """The heading of each field. A class goes through its bases first: what they say of a field stays."""
    groups: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        if "__dataclass_fields__" not in vars(ancestor):
            continue
        group = FIRST_GROUP
        for item in dataclasses.fields(ancestor):
            own = item.metadata.get(_OPTION, {}).get("group")
            group = groups[item.name] = own or groups.get(item.name) or group
    return groups
