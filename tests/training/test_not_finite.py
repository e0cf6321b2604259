"""Losses, gradients and weights that are no numbers stop a run, and nothing good is lost."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from zhsenti.core.errors import TrainingError
from zhsenti.training.checkpoints import checkpoints, fault_of
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.run import train


def test_infinite_loss_stops_the_run_names_the_batch_and_keeps_the_checkpoint(config, tmp_path, monkeypatch):
    step = SentimentTrainer.compute_loss

    def poisoned(self, model, inputs, *args, **kwargs):
        return step(self, model, inputs, *args, **kwargs) * (float("nan") if self.state.global_step == 12 else 1)

    monkeypatch.setattr(SentimentTrainer, "compute_loss", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(config())
    for part in ("第 13 步的损失", "nan", "训练数据的第", "checkpoint-10", "--learning_rate"):
        assert part in str(caught.value)
    rows = str(caught.value).split("训练数据的第 ")[1].split(" 行")[0].split("、")
    assert len(rows) == 8
    last = checkpoints(tmp_path / "run")[0]
    assert last.name == "checkpoint-10"
    assert not fault_of(last)
    assert not (tmp_path / "run" / "lora_adapter").exists()


@pytest.mark.parametrize("after", [2, 5])
def test_an_update_that_explodes_is_not_saved_over_the_good_one(config, tmp_path, monkeypatch, after):
    """The loss was fine, the update made the weights useless: what follows is the evaluation, or the next step."""
    step = SentimentTrainer.training_step

    def explode(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        if self.state.global_step == after + 4:
            for group in self.optimizer.param_groups:
                group["lr"] = 1e38
        return loss

    monkeypatch.setattr(SentimentTrainer, "training_step", explode)
    with pytest.raises(TrainingError, match="不是有限的数"):
        train(config(max_grad_norm=0.0, save_total_limit=1))
    (last,) = checkpoints(tmp_path / "run")
    assert last.name == "checkpoint-5"
    assert all(torch.isfinite(x).all() for x in load_file(last / "adapter_model.safetensors").values())
    assert not (tmp_path / "run" / "lora_adapter").exists()


def test_infinite_gradients_of_a_finite_loss_stop_it_too(config, monkeypatch):
    finish = SentimentTrainer._accumulate

    def poisoned(self, *args):
        loss = finish(self, *args)
        next(p for p in self.model.parameters() if p.requires_grad).grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(SentimentTrainer, "_accumulate", poisoned)
    with pytest.raises(TrainingError, match="第 1 步的梯度范数不是有限的数"):
        train(config())
