"""Runs whose memory runs out: smaller passes first, then recomputation, then one message."""

from __future__ import annotations

import json

import pytest
import torch

from tests.training.doomed import events
from zhsenti.core.errors import TrainingError
from zhsenti.training.checkpoints import MARK, checkpoints
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.run import train


def short_of_memory(monkeypatch, allowed: int, *, checkpointing: bool = False) -> None:
    """Passes over more than ``allowed`` reviews fail after half their work is done, as a real allocation would."""
    step = SentimentTrainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        loss = step(self, model, inputs, *args, **kwargs)
        if len(inputs["labels"]) > allowed and not (checkpointing and self.model.checkpointing):
            loss.backward()  # gradients of this pass are there already
            torch.empty(2**60)
        return loss

    monkeypatch.setattr(SentimentTrainer, "compute_loss", limited)


def test_out_of_memory_halves_the_micro_batches_and_changes_no_update(config, tmp_path, monkeypatch, capsys):
    train(config("roomy", lora_dropout=0.0, num_epochs=1))
    short_of_memory(monkeypatch, 3)
    train(config("tight", lora_dropout=0.0, num_epochs=1))
    said = capsys.readouterr().err
    assert "有效批量不变" in said
    roomy, tight = ([e["loss"] for e in events(tmp_path / name, "train")] for name in ("roomy", "tight"))
    assert tight == pytest.approx(roomy, abs=1e-4)
    assert len(tight) == 12
    mark = json.loads((checkpoints(tmp_path / "tight")[0] / MARK).read_text(encoding="utf-8"))
    assert mark["micro_tokens"] == events(tmp_path / "tight", "summary")[0]["micro_tokens"] < 500


def test_out_of_memory_with_one_review_recomputes_then_gives_up(config, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        short_of_memory(patch, 0, checkpointing=True)
        train(config("saved", lora_dropout=0.0, num_epochs=1))
    assert "重算激活" in capsys.readouterr().err
    assert events(tmp_path / "saved", "summary")[0]["gradient_checkpointing"] is True
    short_of_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match=r"一条 \d+ token 的评论也放不下"):
        train(config("lost", lora_dropout=0.0))


def test_out_of_memory_elsewhere_is_one_message(config, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: torch.empty(2**60))
    with pytest.raises(TrainingError, match=r"内存不足[\s\S]*--resume_from_checkpoint auto"):
        train(config())


def test_out_of_memory_in_an_evaluation_halves_too(config, tmp_path, monkeypatch, capsys):
    from zhsenti.methods.base import Scorer

    forward = Scorer.forward

    def limited(self, trie, labels=None, num_items_in_batch=None):
        if labels is None and len(trie.reads) > 2:
            torch.empty(2**60)
        return forward(self, trie, labels, num_items_in_batch)

    train(config("roomy", num_epochs=1))
    monkeypatch.setattr(Scorer, "forward", limited)
    train(config("tight", num_epochs=1))
    assert "有效批量不变" in capsys.readouterr().err
    roomy, tight = ([e["dev_loss"] for e in events(tmp_path / name, "eval")] for name in ("roomy", "tight"))
    assert tight == pytest.approx(roomy, rel=0.2)  # dropout's masks differ where updates are cut another way
