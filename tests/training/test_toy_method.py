"""A method from outside the package, registered by one line, is trained, resumed, saved, opened and used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.toys import SMOOTHING, ToyMethod
from tests.training.doomed import events, same, weights
from zhsenti.artifact import open_artifact
from zhsenti.cli import main
from zhsenti.core.errors import ConfigError
from zhsenti.methods import METHODS
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.training.checkpoints import checkpoints
from zhsenti.training.run import train

TEXTS = ["酒店第7次住很好，房间不错", "酒店第7次住很差，房间太吵", "一般"]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", ToyMethod)
    return "toy"


def test_the_command_line_offers_what_is_registered(toy, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert toy in capsys.readouterr().out
    METHODS.pop(toy)
    with pytest.raises(ConfigError, match=r"method[\s\S]*toy"):
        main(["train", "--method", toy])


def test_it_is_trained_saved_and_predicts(toy, command, tmp_path, capsys):
    """By the command that users type."""
    assert main(["train", "--method", toy, *command(tmp_path / "run")]) == 0
    artifact = open_artifact(tmp_path / "run" / "lora_adapter")
    assert (artifact.manifest.method, artifact.adapter.head) == (toy, "rater")
    head = {name: tensor for name, tensor in weights(tmp_path / "run").items() if "rater" in name}
    assert {name.rpartition(".")[2] for name in head} == {"weight", "scale"}
    assert all(tensor.dtype == torch.float32 for tensor in head.values())
    capsys.readouterr()
    assert main(["predict", "--model_path", str(artifact.folder), "--text", TEXTS[0]]) == 0
    assert any(label in capsys.readouterr().out for label in artifact.manifest.task.labels)


def test_its_own_loss_is_what_training_makes_small(toy, config, tmp_path):
    train(config(method=toy, num_epochs=1))
    first, *_ = events(tmp_path / "run", "train")
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-6), "a head of zeros knows nothing, smoothed or not"
    plain = ToyMethod.loss(None, torch.tensor([[-0.1, -2.4]]), torch.tensor([0]))
    assert plain == pytest.approx((1 - SMOOTHING) * 0.1 + SMOOTHING * (0.1 + 2.4) / 2, abs=0.01)
    logged = {entry["step"]: entry["dev_loss"] for entry in events(tmp_path / "run", "eval")}
    assert min(logged.values()) > 0.15, "no smoothed loss comes near 0"


@pytest.mark.parametrize("stop", [7, 14])
def test_cut_and_resumed_equals_not_cut(toy, config, stop, tmp_path, stop_at):
    whole = train(config("whole", method=toy))
    with stop_at(stop), pytest.raises(KeyboardInterrupt):
        train(config("cut", method=toy))
    resumed = train(config("cut", method=toy, resume_from_checkpoint="auto"))
    assert events(tmp_path / "cut", "resume")[0]["checkpoint"].endswith(f"checkpoint-{stop // 5 * 5}")
    assert same(load_file(whole / "adapter_model.safetensors"), load_file(resumed / "adapter_model.safetensors"))
    last, expected = checkpoints(tmp_path / "cut")[0], checkpoints(tmp_path / "whole")[0]
    assert last.name == expected.name
    assert same(load_file(last / "adapter_model.safetensors"), load_file(expected / "adapter_model.safetensors"))


def test_it_is_scored_as_trained_merged_and_exported(toy, config, tmp_path):
    adapter = train(config(method=toy, num_epochs=1))
    predictor, merged = SentimentPredictor.from_folder(adapter), SentimentPredictor.from_folder(adapter, merge=True)
    expected = predictor.log_probs(TEXTS)
    assert np.ptp(expected[:, 0]) > 1e-3
    np.testing.assert_allclose(merged.log_probs(TEXTS), expected, atol=1e-4)
    untrained = predictor.zero_shot()
    assert untrained.log_probs(TEXTS).shape == expected.shape
    method, network = merged._scorer.method, merged._scorer.network
    classifier = method.export(network).eval()
    assert "SequenceClassification" in type(classifier).__name__
    ids = [method.encode(text).ids for text in TEXTS]
    with torch.inference_mode():
        logits = torch.cat([classifier(input_ids=torch.tensor([row])).logits for row in ids])
    np.testing.assert_allclose(logits.float().log_softmax(-1).numpy(), expected, atol=1e-4)
