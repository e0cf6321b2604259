"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhsenti.data.tables import csv_safe

pytestmark = pytest.mark.hostile
BLANKS = ["", " ", "\n", "\u3000", "\ufeff", "\u00a0", "\x0b", "\x0c", "\u200b", "\u2028", " \ufeff\u00a0"]


@pytest.mark.parametrize("sign", list("=+-@＝＋－＠﹦﹢﹣﹫\t\r"))
@pytest.mark.parametrize("blank", BLANKS)
def test_a_formula_is_text_whatever_stands_before_it(blank, sign):
    text = f"{blank}{sign}cmd|' /C calc'!A0"
    assert csv_safe(text) == f"'{text}"


@given(st.text())
def test_nothing_is_lost_and_words_stay_as_they_are(text):
    safe = csv_safe(text)
    shown = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    assert safe in (shown, f"'{shown}")
    if text[:1].isalnum():
        assert safe == shown
