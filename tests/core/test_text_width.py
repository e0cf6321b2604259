"""Wrapping of lines with wide characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhsenti.core.text_width import cells, wrap

some_text = st.text(alphabet=st.characters() | st.sampled_from("中文，。（）“” ab|/-\n"), max_size=120)


@pytest.mark.fuzz
@given(text=some_text, width=st.integers(2, 60))
def test_wrapped_lines_fit_and_lose_nothing(text, width):
    lines = wrap(text, width)
    assert all(cells(line) <= width for line in lines)
    assert all(line == line.strip() != "" for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_wrapping_looks_well():
    assert wrap("数据文件里用不了的行：列出并停下", 20) == ["数据文件里用不了的", "行：列出并停下"]
    assert wrap("训练完成，可以用了。", 18) == ["训练完成，可以用", "了。"]
    assert wrap("一二三四五六七八九十一二三四五六", 30) == ["一二三四五六七八九十一二三", "四五六"]
    assert wrap("默认 experiments/label_scoring 文件夹", 26) == ["默认", "experiments/label_scoring", "文件夹"]
    assert wrap("一\n\n二  三", 20) == ["一", "二 三"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("", 10) == []
