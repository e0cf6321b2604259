"""Which int8 scores are taken again."""

from __future__ import annotations

import numpy as np
import pytest

from zhsenti.prediction.close_calls import CLOSE_CALL, close_call, near


def test_the_error_of_int8_is_that_of_a_difference():
    """Two labels: the root mean square of what int8 changes in log p1 - log p0."""
    rough, exact = np.zeros((3, 2)), np.array([[0.1, -0.2], [0.0, 0.0], [-0.3, 0.3]])
    assert close_call(rough, exact) == pytest.approx(CLOSE_CALL * np.sqrt((0.3**2 + 0.6**2) / 3))


def test_near_rows_are_those_whose_best_two_labels_are():
    scores = np.log([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05]])
    assert near(scores, 0.2).tolist() == [1]
    assert near(scores, 0.0).tolist() == []
    assert near(scores, float("inf")).tolist() == [0, 1, 2]
