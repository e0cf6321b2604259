"""How sure a share is."""

from __future__ import annotations


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share (Wilson 1927).

    Args:
        hits: How many of the trials.
        n: How many trials there were, at least one.

    Returns:
        Its lower and its upper end.
    """
    from scipy.stats import binomtest  # here, because --help must not wait for it

    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
