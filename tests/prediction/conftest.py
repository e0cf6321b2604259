"""A tiny trained adapter of every method."""

from __future__ import annotations

import pytest

from zhsenti.methods import METHODS
from zhsenti.training.config import TrainConfig
from zhsenti.training.run import train


@pytest.fixture(scope="session", params=list(METHODS))
def adapter(request, tiny_model, review_csv, tmp_path_factory):
    """The folder; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        method=request.param,
        model_name=str(tiny_model),
        dataset=str(review_csv),
        precision="fp32",
        num_epochs=1,
        output_dir=str(folder),
    )
    return train(config)
