"""What a usable text is, what looks damaged, and cells that a spreadsheet would run."""

from __future__ import annotations

import pytest

from zhsenti.data.tables import csv_safe
from zhsenti.data.text import is_blank, suspicious


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("很好\ufffd", "U+FFFD"),
        ("很\x07好", "U+0007"),
        ("很\ud800好", "U+D800"),
        ("很\u200b好", "U+200B"),
        ("abc\u202e好", "U+202E"),
        ("房间锟斤拷很好", "锟斤拷"),
        ("cafÃ© trÃ¨s", "Ã©"),
        ("这家酒店很好".encode().decode("latin-1"), "乱码"),
        ("房间干净服务很好".encode().decode("gb18030"), "GBK"),
        ("一家人👨‍👩‍👧很开心☕️", None),
        ("naïve café，100 ℃～", None),
        ("换行\n和制表\t", None),
        ("联通联通", None),
    ],
)
def test_suspicious_characters(text, part):
    found = suspicious(text)
    assert any(part in reason for reason in found) if part else not found


@pytest.mark.parametrize("text", ["", " \t\n\u3000", "\u200b\u2060\ufeff", "\u3164\u2800", "\x00\x1f", "\ufe0f"])
def test_blank_texts(text):
    assert is_blank(text)
    assert not is_blank(text + "！")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", " =1", "\n=1", "＝1"])
def test_no_cell_is_a_formula(text):
    assert csv_safe(text) == f"'{text}"
    assert csv_safe("a" + text) == "a" + text
    assert csv_safe(-1.5) == -1.5
