"""The types a flag may have, each with the way its value is read from the command line or from YAML.

bool, int, float, str, Path, Literal, Enum; a list of one of them; dict, which only YAML can hold; any of them or None;
a dict or one of the others.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from zhsenti.core.paths import user_path

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class ValueType:
    """One type of value.

    Attributes:
        name: What messages call a value, as in ``'x' 不是整数``.
        metavar: What the help page calls it.
        read: Turns a flag's text or a YAML value into the value; raises ValueError with the reason in Chinese.
        words: All that is allowed, where the type itself says so (Literal, Enum).
        switch: A bool: the flag may stand without a value.
        many: A list: the flag may be given several times.
        in_yaml: A dict: no flag can hold it.
        optional: None is allowed too.
    """

    name: str
    metavar: str
    read: Callable[[Any], Any]
    words: tuple[str, ...] = ()
    switch: bool = False
    many: bool = False
    in_yaml: bool = False
    optional: bool = False


def value_type(hint: Any) -> ValueType:
    """The way to read what ``hint``, a resolved annotation, stands for.

    Raises:
        TypeError: It is not supported.
    """
    origin, arms = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if origin in (types.UnionType, typing.Union):
        return _union(arms)
    if origin is list:
        return _list_of(value_type(arms[0]))
    if origin is dict and arms == (str, Any):
        return _SIMPLE[dict]
    if origin is typing.Literal and all(type(arm) in (str, int) for arm in arms):
        return _one_of({str(arm): arm for arm in arms})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _one_of({str(member.value): member for member in hint})
    raise TypeError(f"a flag cannot be of type {hint}")


def not_allowed(value: Any, choices: Sequence[str]) -> ValueError:
    """The error for a word that is none of ``choices``."""
    return ValueError(f"{repr(value)[:80]} 不在 {' | '.join(choices)} 之中")


# ── one value ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_no(name: str, raw: Any) -> ValueError:
    return ValueError(f"{repr(raw)[:80]} 不是{name}")


def _bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if str(raw).lower() not in BOOLEANS:
        raise _is_no("true 或 false", raw)
    return BOOLEANS[str(raw).lower()]


def _int(raw: Any) -> int:
    try:
        number = float(raw)  # 1e3 is a whole number too
        if isinstance(raw, bool) or number != int(number):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise _is_no("整数", raw) from None
    return int(number)


def _float(raw: Any) -> float:
    try:
        number = float(raw)
        if isinstance(raw, bool) or number != number or number in (float("inf"), float("-inf")):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise _is_no("数", raw) from None
    return number


def _str(raw: Any) -> str:
    """Refuses lists, NUL, which no path can hold, and lone surrogates, which no results can."""
    text = str(raw)
    if raw is None or isinstance(raw, (dict, list)) or "\0" in text:
        raise _is_no("文字", raw)
    if isinstance(raw, bool):  # YAML's yes, no, on and off: who writes the column name no does not mean False
        raise ValueError(f"{raw} 不是文字：YAML 里的 yes、no、true、false 要加引号")
    if text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ValueError(f"{repr(raw)[:80]} 不是 UTF-8：文件就改名，别的就重新输入")
    return text


def _path(raw: Any) -> Path:
    return user_path(_str(raw))


def _dict(raw: Any) -> dict[str, Any]:
    """What is in it is for the field's owner to judge."""
    if not isinstance(raw, dict):
        raise _is_no("“键: 值”（这个参数只能写在 YAML 里）", raw)
    return raw


_SIMPLE = {
    bool: ValueType("true 或 false", "true|false", _bool, switch=True),
    int: ValueType("整数", "整数", _int),
    float: ValueType("数", "数值", _float),
    str: ValueType("文字", "文字", _str),
    Path: ValueType("文字", "路径", _path),
    dict: ValueType("“键: 值”", "…", _dict, in_yaml=True),
}


def _one_of(values: dict[str, Any]) -> ValueType:
    def read(raw: Any) -> Any:
        if str(raw) not in values:
            raise not_allowed(raw, tuple(values))
        return values[str(raw)]

    return ValueType("文字", "文字", read, words=tuple(values))


# ── types made of types ───────────────────────────────────────────────────────────────────────────────────────────


def _list_of(item: ValueType) -> ValueType:
    """A value that is no list stands for a list of one."""
    if item.many or item.switch or item.in_yaml or item.optional:
        raise TypeError(f"a flag cannot be a list of {item.name}")

    def read(raw: Any) -> list[Any]:
        return [item.read(part) for part in (raw if isinstance(raw, list) else [raw])]

    return replace(item, read=read, many=True)


def _union(arms: tuple[Any, ...]) -> ValueType:
    optional = types.NoneType in arms
    kinds = [value_type(arm) for arm in arms if arm is not types.NoneType]
    if len(kinds) == 1:
        return replace(kinds[0], optional=optional)
    plain = [kind for kind in kinds if not kind.in_yaml]
    if len(plain) != 1 or len(kinds) != 2 or plain[0].many or plain[0].switch:
        raise TypeError(f"a flag cannot be one of {', '.join(str(arm) for arm in arms)}: the value would not say which")
    return replace(plain[0], read=lambda raw: raw if isinstance(raw, dict) else plain[0].read(raw), optional=optional)
