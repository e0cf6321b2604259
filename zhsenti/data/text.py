"""What a usable text is. One rule for every door: files, ``--text``, ``--interactive``, the Python API, the service.

A text is refused (``text_fault``), or read as it is. What is read may still look damaged (``suspicious``): that is
reported and changes nothing.
"""

from __future__ import annotations

import math
import re
import unicodedata

MAX_TEXT = 1_000_000  # characters


# ── cells as people see them ──────────────────────────────────────────────────────────────────────────────────────


def cell_text(value: object) -> str:
    """A cell as a person sees it: whole numbers without ``.0``, nothing for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    value = whole(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def whole(value: object) -> object:
    """A whole number without ``.0``: Excel holds every number as a float, and 12.0 is 12 to whoever typed it."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def readable(text: str) -> str:
    """Lone surrogates, which no UTF-8 can hold (a file, a tokenizer, jieba), as "?". Places stay the same."""
    return text.encode("utf-8", "replace").decode()


# ── refused ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Categories Z (separators), Cc (control) and Cf (format) show nothing; so do these letters, marks and symbols.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))


def text_fault(text: str) -> str:
    """Why no door takes this text (Chinese), or ""."""
    if not text.strip():
        return "文本是空的"
    if is_blank(text):
        return "文本里只有看不见的字符"
    if len(text) > MAX_TEXT:
        return f"文本太长：{len(text):,} 字，上限 {MAX_TEXT // 10_000} 万字"
    return "文本含 NUL 字符" if "\0" in text else ""


def is_blank(text: str) -> bool:
    """Whether there is nothing but white space, control, format and invisible characters."""
    return all(c in _BLANKS or unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc", "Cf") for c in text)


# ── suspicious ────────────────────────────────────────────────────────────────────────────────────────────────────

# ZWJ and variation selectors belong to emoji, tags to flags: only a ZWJ that joins no emoji is suspicious.
_SIGNS = (
    ("替换符 U+FFFD（已丢失的字）", re.compile("\ufffd")),
    ("控制字符", re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("半个代理对", re.compile(r"[\ud800-\udfff]")),
    (
        "零宽或双向控制字符",
        re.compile(
            r"[\u00ad\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
            r"|(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
        ),
    ),
    (
        "乱码",
        re.compile(
            "锟斤拷|锟紸|烫烫烫|屯屯屯|ï»¿|ï¿½|â€[™œ\u009d\u0153\u2122“”¦]|Ã[\u0080-\u00bf]"
            # UTF-8 read as Latin-1 or Windows-1252: a lead byte of three and two followers, twice
            "|(?:[\u00e2-\u00ef][\u0080-\u00bf\u0152-\u0178\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{2}){2}"
        ),
    ),
)


def suspicious(text: str) -> list[str]:
    """Name what looks damaged (Chinese), with how often and the code points of single characters."""
    signs = []
    for name, pattern in _SIGNS:
        hits = pattern.findall(text)
        if hits:
            kinds = sorted({f"U+{ord(hit):04X}" if len(hit) == 1 else hit for hit in hits})
            signs.append(f"{name} ×{len(hits)}（{'、'.join(kinds[:4])}）")
    if not signs and _utf8_read_as_gbk(text):
        signs.append("乱码（UTF-8 被当作 GBK 读）")
    return signs


def _utf8_read_as_gbk(text: str) -> bool:
    """浣犲ソ for 你好: as GBK bytes the text is valid UTF-8, which real Chinese of this length practically never is."""
    if len(text) < 4 or text.isascii():
        return False
    try:
        meant = text.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return False
    return sum("\u4e00" <= c <= "\u9fff" for c in meant) >= 2
