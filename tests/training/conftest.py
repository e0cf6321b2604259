"""A training run on the tiny model, as a config for this process and as a command for another one."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers import TrainerCallback

from zhsenti.training import session
from zhsenti.training.config import TrainConfig


@pytest.fixture
def config(tiny_model, review_csv, tmp_path):
    def make(name="run", **changes):
        values = {
            "model_name": str(tiny_model),
            "dataset": str(review_csv),
            "precision": "fp32",
            "num_epochs": 2,
            "batch_size": 4,
            "gradient_accumulation_steps": 2,
            "learning_rate": 5e-3,
            "lora_dropout": 0.1,  # so that a lost RNG state shows
            "eval_steps": 5,
            "logging_steps": 1,
            "save_total_limit": 10,
            "max_length": 96,
            "output_dir": str(tmp_path / name),
        }
        return TrainConfig(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def command(tiny_model, review_csv):
    """argv of a run of 6 updates with checkpoints at 2, 4 and 6, of which one is kept."""

    def make(output: Path, *more: str) -> list[str]:
        settings = {
            "model_name": tiny_model, "dataset": review_csv, "precision": "fp32", "max_length": 96,
            "batch_size": 8, "gradient_accumulation_steps": 2, "learning_rate": "5e-3", "lora_dropout": "0.1",
            "num_epochs": 1, "eval_steps": 2, "logging_steps": 1, "save_total_limit": 1, "output_dir": output,
        }  # fmt: skip
        return [word for name, value in settings.items() for word in (f"--{name}", str(value))] + list(more)

    return make


@pytest.fixture
def stop_at(monkeypatch):
    """A context in which every run is cut, as by Ctrl-C twice, after a step."""

    class StopAt(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == self.step:
                raise KeyboardInterrupt

    @contextmanager
    def cut(step):
        real = session.trackers
        with monkeypatch.context() as patch:
            patch.setattr(session, "trackers", lambda *args: [*real(*args), StopAt(step)])
            yield

    return cut
