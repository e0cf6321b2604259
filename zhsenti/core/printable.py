"""Text from files, labels and names as it may stand on a terminal: it can be read, and moves or asks for nothing."""

from __future__ import annotations

import unicodedata

# What turns the direction of the text after it (CVE-2021-42574): a name could be read as another one.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """``text`` with control characters and turns of direction written out (``\\x1b``); line breaks and tabs stay.

    A terminal takes some of them for commands: to colour, to go back and write over what was said, to put something
    on the clipboard (OSC 52).
    """
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or not _is_command(char) else _escaped(char) for char in text)


def _is_command(char: str) -> bool:
    return unicodedata.category(char) == "Cc" or char in _TURNS


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
