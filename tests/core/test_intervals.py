"""Intervals of shares."""

from __future__ import annotations

import pytest

from zhsenti.core.intervals import wilson


def test_wilson_by_hand():
    # (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.9, n = 100
    assert wilson(90, 100) == pytest.approx((0.82563, 0.94477), abs=1e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 30), (7, 9), (50, 50), (331, 1200)])
def test_wilson_agrees_with_statsmodels(hits, n):
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(hits, n) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-9)
