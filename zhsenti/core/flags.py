"""A command's dataclass read from the command line and from YAML: flags beat YAML, YAML beats defaults.

    @dataclass
    class GreetConfig:
        name: str = option("世界", "向谁问好")
        times: int = option(1, "说几遍", low=1)

    config, sources = parse(GreetConfig, argv, "问好")

Words are read here rather than by argparse, which stops at the first mistake, says so in English, and takes a word such
as ``-1e-4`` or ``--`` for what it is not. A user gets all mistakes in one message.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from zhsenti.core.errors import ConfigError
from zhsenti.core.flag_fields import Flag, flags_of, option
from zhsenti.core.flag_help import help_page
from zhsenti.core.flag_types import BOOLEANS, value_type
from zhsenti.core.paths import user_path
from zhsenti.core.yaml_files import read_yaml

__all__ = ["option", "parse", "program", "read_yaml", "split_names", "typed"]

C = TypeVar("C")
COMMAND_LINE = "命令行"
_IS_FLAG = re.compile(r"--?[A-Za-z][\w-]*(=|$)|--$", re.ASCII)
_DASHES = "-–—－"  # word processors turn -- into one of the others


def parse(
    cls: type[C],
    argv: Sequence[str] | None,
    description: str,
    positional: str | None = None,
    *,
    examples: Sequence[str] = (),
    configs: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[C, dict[str, str]]:
    """Read flags (``--lora_r`` and ``--lora-r`` alike) and the YAML named by ``--config`` into ``cls``.

    ``--help`` prints the page and exits with 0.

    Args:
        cls: A dataclass whose fields are made by ``option``.
        argv: The words after the command; None for those of the process.
        description: One Chinese line for the help page.
        positional: Name of the list field that takes the words without a flag, wherever they stand.
        examples: Command lines for the help page.
        configs: Folder of the YAML files that ``--config`` finds by their bare name (``laptop``).
        defaults: Values in place of the dataclass's own, where an alias of the command has others.

    Returns:
        The config, and where each value that is not the dataclass's own came from: 命令行, the YAML, or for one of
        ``defaults`` the program.

    Raises:
        ConfigError: Lists every fault of the flags and the YAML at once, a YAML that cannot be read among them.
        TypeError: ``cls`` has a field that cannot be a flag.
    """
    below, config = dict(defaults or {}), _config_flag(configs)
    flags = {
        name: replace(flag, default=below.get(name, flag.default)) for name, flag in flags_of(cls, positional).items()
    }
    words = _Words([*flags.values(), config], sys.argv[1:] if argv is None else argv)
    if words.help:
        print(help_page(list(flags.values()), config, program(), description, examples, _width()))
        raise SystemExit(0)
    faults = words.faults()
    named = _read_values({"config": config}, words.take_config(), COMMAND_LINE, faults)
    written, origin = _read_config(named["config"], configs, faults) if named else ({}, "")
    from_yaml = _read_values(flags, written, origin, faults)
    from_words = _read_values(flags, words.values, COMMAND_LINE, faults)
    if faults:
        raise ConfigError("参数有误\n  - " + "\n  - ".join(faults), todo=f"{words.hint()}--help 列出所有参数。")
    given = ((below, program()), (from_yaml, origin), (from_words, COMMAND_LINE))
    sources = {name: source for values, source in given for name in values}
    return cls(**(below | from_yaml | from_words)), sources


def program() -> str:
    """How the running command was called, as it can be typed: ``zhsenti audit``, or ``python scripts/inference.py``."""
    called = Path(sys.argv[0])
    if called.stem == "zhsenti" or called.parts[-2:] == ("zhsenti", "__main__.py"):
        return " ".join(["zhsenti", *(word for word in sys.argv[1:2] if not word.startswith("-"))])
    return f"python {shlex.quote(sys.argv[0])}" if called.suffix == ".py" else called.name


def typed(config: Any, *names: str) -> str:
    """Those of the flags whose values are not the defaults, as they can be typed after a command.

    Args:
        config: A dataclass as ``parse`` gives it.
        names: Of the flags, in the order in which they shall stand; none of them a list or a table of YAML.

    Returns:
        Each with a space in front: `` --lora_r 32 --early false``; "" where all are defaults.
    """
    flags, words = flags_of(type(config)), ""
    for name in names:
        value = getattr(config, name)
        if value != flags[name].default:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += f" --{name}{'=' if _IS_FLAG.match(text) else ' '}{shlex.quote(text)}"
    return words


def split_names(text: str) -> list[str]:
    """``"a，b"`` as ``["a", "b"]``: names separated by commas, Chinese ones too."""
    return [name.strip() for name in text.replace("，", ",").split(",") if name.strip()]


def _width() -> int:
    """Columns for the help page: not the last one, where some terminals break the line; not more than read well."""
    return max(40, min(shutil.get_terminal_size().columns - 1, 110))


def _read_values(flags: Mapping[str, Flag], given: Mapping[str, Any], source: str, faults: list[str]) -> dict[str, Any]:
    """The values of ``given`` that are right; the others, and names that no flag has, are added to ``faults``."""
    values = {}
    for name, raw in given.items():
        if name not in flags:
            near = difflib.get_close_matches(name, list(flags), n=1)
            faults.append(f"{source} 的 {name}：没有这个参数" + (f"，是否指 {near[0]}？" if near else ""))
            continue
        try:
            values[name] = flags[name].read(raw)
        except ValueError as error:
            faults.append(f"{source} 的 {name}：{error}")
    return values


# ── the words of the command line ─────────────────────────────────────────────────────────────────────────────────


class _Words:
    """The words of a command line, sorted.

    Attributes:
        values: What was given, by the flag's name: a text, a list of texts, or True for a switch without a value.
        help: Whether ``--help`` is among them.
    """

    def __init__(self, flags: Sequence[Flag], words: Sequence[str]) -> None:
        self.values: dict[str, Any] = {}
        self.help = False
        self._flags = {spelling: flag for flag in flags if not flag.positional for spelling in flag.spellings}
        self._positional = next((flag.name for flag in flags if flag.positional), None)
        self._without_value: list[str] = []
        self._unknown: list[str] = []
        left = deque(words)
        while left:
            self._sort(left.popleft(), left)

    def _sort(self, word: str, left: deque[str]) -> None:
        """Put ``word`` where it belongs, with those of the words ``left`` that go with it."""
        name, equals, value = word.partition("=")
        if name in ("-h", "--help"):
            self.help = True
        elif name in self._flags:
            self._take(name, value if equals else None, left)
        elif word == "--" and self._positional:  # what follows is no flag, whatever it looks like
            self._append(self._positional, *left)
            left.clear()
        elif self._positional and not _looks_like_a_flag(word):
            self._append(self._positional, word)
        else:
            self._unknown.append(word)

    def _take(self, name: str, value: Any, left: deque[str]) -> None:
        """Note the value of flag ``name``: that after its ``=``, or else the next word."""
        flag = self._flags[name]
        follows = left[0] if left and not _IS_FLAG.match(left[0]) else None
        if flag.type.switch and self._positional and str(follows).lower() not in BOOLEANS:
            follows = None  # ``--json FILE``: the word is not the switch's
        if value is None and follows is not None:
            value = left.popleft()
        if value is None and not flag.type.switch:
            self._without_value.append(name)
        elif flag.type.many:
            self._append(flag.name, value)
        else:
            self.values[flag.name] = True if value is None else value

    def _append(self, name: str, *words: str) -> None:
        self.values[name] = [*self.values.get(name, []), *words]

    def take_config(self) -> dict[str, Any]:
        """Remove ``--config`` from the values and return it."""
        return {"config": self.values.pop("config")} if "config" in self.values else {}

    def faults(self) -> list[str]:
        """What is wrong with the words themselves, whatever the values."""
        faults = [f"不认识的参数：{' '.join(word or '（空）' for word in self._unknown)}"] if self._unknown else []
        return faults + [f"{name} 缺少取值（以 - 开头的值写成 {name}=值）" for name in self._without_value]

    def hint(self) -> str:
        """``--lora_rx 是否指 --lora_r？`` for each unknown flag that is like one of ours."""
        names = ["help", *(flag.name for flag in self._flags.values())]
        hint = ""
        for word in filter(_looks_like_a_flag, self._unknown):
            name = word.partition("=")[0]
            near = difflib.get_close_matches(name.lstrip(_DASHES).replace("-", "_"), names, n=1)
            hint += f"{name} 是否指 --{near[0]}？" if near else ""
        return hint


def _looks_like_a_flag(word: str) -> bool:
    """Of a word that stands alone: ``--jsom``, ``-x`` and ``—json`` do; ``-``, ``-5`` and ``- a`` do not."""
    return word.startswith(tuple(_DASHES)) and len(word) > 1 and not re.match(r".[\d.\s]", word)


# ── the file of --config ──────────────────────────────────────────────────────────────────────────────────────────


def _config_flag(configs: Path | None) -> Flag:
    text = "从 YAML 文件读参数，每行一个“参数名: 值”；命令行优先"
    names = "、".join(_packaged(configs))
    if names:
        text += f"。自带的写名字即可：{names}"
    return Flag("config", value_type(str), None, text, metavar="YAML")


def _packaged(configs: Path | None) -> list[str]:
    return sorted(path.stem for path in configs.glob("*.yaml")) if configs else []


def _read_config(named: str, configs: Path | None, faults: list[str]) -> tuple[dict[str, Any], str]:
    """What the YAML says, and what to call it; why it cannot be read is added to ``faults``."""
    path, origin = _find_config(named, configs)
    try:
        if not os.path.lexists(path) and (names := _packaged(configs)):
            raise ConfigError(
                f"读不了配置文件 {named}",
                found="没有这个文件",
                todo=f"检查路径。自带的：{'、'.join(names)}，写名字即可。",
            )
        return read_yaml(path), origin
    except ConfigError as error:
        faults.append(str(error).replace("\n", "\n  "))
        return {}, origin


def _find_config(named: str, configs: Path | None) -> tuple[Path, str]:
    """Where the YAML is, and what to call it. A file that exists is meant before a packaged one of that name."""
    path, name = user_path(named), named.removesuffix(".yaml")
    if configs and name in _packaged(configs) and not os.path.isfile(path):
        return configs / f"{name}.yaml", f"自带的 {name}.yaml"
    return path, named
