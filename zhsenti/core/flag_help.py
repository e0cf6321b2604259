"""The page that ``--help`` prints: flags under Chinese headings, each once, wrapped at the terminal's width."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from zhsenti.core.flag_fields import Flag
from zhsenti.core.text_width import cells, pad, wrap

INDENT = "  "
GAP = "  "
LAST_GROUP = "其它"
FILES = "文件"  # words without a flag, where the field has no word for them
Row = tuple[str, str]  # a flag and the word for its value; what it is


def help_page(
    flags: Sequence[Flag],
    config: Flag,
    program: str,
    description: str,
    examples: Sequence[str],
    width: int,
) -> str:
    """Lay out the page.

    Args:
        flags: The command's flags; one whose ``positional`` is set is shown without its name.
        config: The flag ``--config``, which stands last.
        program: How the command is called.
        description: One line on what the command does.
        examples: Command lines, shown as they are.
        width: Columns a line may take. Only a command, or a flag with its word, is ever longer.

    Returns:
        The page, without a line break at its end.
    """
    groups: dict[str, list[Row]] = {}
    for flag in flags:
        groups.setdefault(flag.group, []).append(_row(flag, width))
    groups[LAST_GROUP] = [*groups.pop(LAST_GROUP, []), ("-h, --help", "显示这份说明"), _row(config, width)]
    column = _best_column([row for rows in groups.values() for row in rows], width)
    words = "".join(f"{_row(flag, width)[0]} " for flag in flags if flag.positional)
    blocks = [[f"用法：{program} {words}[参数…]"], wrap(description, width)]
    for group, rows in groups.items():
        blocks.append([f"{group}：", *(line for row in rows for line in _lines(row, column, width))])
    if examples:
        blocks.append(["例子：", *(INDENT + example for example in examples)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _row(flag: Flag, width: int) -> Row:
    """What the page says of a flag; its choices stand beside its name unless that is too long for a line."""
    notes = []
    left = f"--{flag.name} {flag.metavar or flag.type.metavar}"
    if flag.positional:
        left = f"{flag.metavar or FILES}…"
    elif flag.type.in_yaml:
        left = f"{flag.name}: …"
        notes.append("只能写在 YAML 里")
    elif flag.type.switch:
        left = f"--{flag.name}" + {False: "", None: " [true|false]"}.get(flag.default, " true|false")
    elif flag.words:
        left = f"--{flag.name} {'|'.join(flag.words)}"
        if cells(INDENT + left) > width:
            left = f"--{flag.name} {flag.metavar or '名称'}"
            notes.append(" | ".join(flag.words))
    if flag.type.many and not flag.positional:
        notes.append("可写多次")
    default = _shown(flag.default)
    if default and "默认" not in flag.text:
        notes.append(f"默认 {default}")
    return left, _with_notes(flag.text, notes)


def _shown(default: Any) -> str:
    """A default as it would be typed; nothing for None, an empty text and an empty list."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "是" if default else "否"
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, Enum):
        return str(default.value)
    if isinstance(default, list):
        return "、".join(_shown(item) for item in default)
    return "" if isinstance(default, dict) else str(default)


def _with_notes(text: str, notes: Sequence[str]) -> str:
    """Put notes in brackets after the text, or into those that it ends with."""
    if not notes:
        return text
    if text.endswith("）"):
        return f"{text[:-1]}；{'；'.join(notes)}）"
    return f"{text}（{'；'.join(notes)}）"


def _best_column(rows: Sequence[Row], width: int) -> int:
    """The width of the left column, at most half the page, with which the page has the fewest lines."""
    widths = {cells(left) for left, _ in rows if cells(left) <= width // 2}
    return min(widths, key=lambda column: (sum(len(_lines(row, column, width)) for row in rows), -column))


def _lines(row: Row, column: int, width: int) -> list[str]:
    """A flag and its text side by side, or the text below where the flag is wider than the column."""
    left, text = row
    indent = INDENT + " " * column + GAP
    lines = [indent + line for line in wrap(text, width - len(indent))]
    if cells(left) > column or not lines:
        return [INDENT + left, *lines]
    return [INDENT + pad(left, column) + lines[0][len(INDENT) + column :], *lines[1:]]
