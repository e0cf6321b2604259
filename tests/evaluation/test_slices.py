"""Slices of the rows: every row once, small ones pooled, worse only by more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from zhsenti.evaluation.slices import slices


def test_slices_count_every_row_once_and_pool_small_ones():
    values = ["甲"] * 30 + ["乙"] * 12 + ["丙"] * 3 + ["丁"] * 4
    mask = np.array([i % 3 > 0 for i in range(49)])
    found = slices(mask, {"列": values})
    assert [(item.value, item.n) for item in found] == [("甲", 30), ("乙", 12), ("其余（各不足 10 条）", 7)]
    assert sum(item.n * item.accuracy for item in found) == pytest.approx(mask.sum())
    assert not any(item.worse for item in found)


def test_a_slice_is_worse_only_by_more_than_chance():
    values = ["21–50"] * 100 + ["1–20"] * 100 + ["101 以上"] * 100
    mask = np.array([True] * 100 + [i % 2 == 0 for i in range(100)] + [i > 4 for i in range(100)])
    found = slices(mask, {"长度": values, "只有一种": ["同"] * 300})
    assert [item.value for item in found] == ["1–20", "21–50", "101 以上", "同"]
    assert [item.worse for item in found] == [True, False, False, False]
    assert found[-1].p_holm is None


def test_an_empty_cell_has_a_name():
    assert slices(np.ones(20, dtype=bool), {"列": [""] * 20})[0].value == "（空）"
