"""Temperature scaling of class log-probabilities (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

LOG_FLOOR = -700.0  # stands for log 0: keeps differences of log-probabilities finite


def scale(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """log softmax(log p / T), float64 (N, C). The likeliest label never changes."""
    scaled = np.maximum(np.asarray(log_probs, dtype=np.float64), LOG_FLOOR) / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
