"""Class log-probabilities: scaled by a temperature (Guo et al. 2017, arXiv:1706.04599), and as log-odds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

LOG_FLOOR = -700.0  # stands for log 0: keeps differences of log-probabilities finite


def scale(log_probs: ArrayLike, temperature: float) -> np.ndarray:
    """Divide log-probabilities by a temperature and normalise them again: log softmax(log p / T).

    Args:
        log_probs: Class log-probabilities (N, C).
        temperature: T > 0; above 1 predictions get less confident. The likeliest label never changes.

    Returns:
        Float64 (N, C).
    """
    scaled = np.maximum(np.asarray(log_probs, dtype=np.float64), LOG_FLOOR) / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def log_odds(log_probs: np.ndarray, k: int) -> np.ndarray:
    """log p_k − log(1 − p_k), with 1 − p_k as the sum of the other classes: exact where p_k rounds to 1.

    Args:
        log_probs: Class log-probabilities (..., C).
        k: Number of the class.

    Returns:
        Float64 (...).
    """
    floored = np.maximum(np.asarray(log_probs, dtype=np.float64), LOG_FLOOR)
    return floored[..., k] - np.logaddexp.reduce(np.delete(floored, k, axis=-1), axis=-1)
