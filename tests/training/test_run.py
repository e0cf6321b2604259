"""Whole runs on a tiny random model: equal to themselves, resumable to the bit, clear when they cannot go on."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from tests.training.doomed import events, losses
from zhsenti.artifact import open_artifact
from zhsenti.core.errors import ConfigError, DataError, TrainingError
from zhsenti.methods import METHODS
from zhsenti.training.run import train


@pytest.mark.parametrize("method", list(METHODS))
def test_same_seed_same_losses_same_weights(config, method, tmp_path):
    first, second = train(config("a", method=method)), train(config("b", method=method))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert len(losses(tmp_path / "a")) > 10
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    assert all(one[key].equal(two[key]) for key in one)
    third = train(config("c", seed=7, method=method))
    assert not all(one[key].equal(value) for key, value in load_file(third / "adapter_model.safetensors").items())


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("stop", [7, 14])  # in the first epoch and in the second
def test_stopped_and_resumed_equals_not_stopped(config, method, stop, tmp_path, stop_at):
    whole = train(config("whole", method=method))
    final = sorted((tmp_path / "whole").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[-1]

    with stop_at(stop), pytest.raises(KeyboardInterrupt):
        train(config("cut", method=method))
    assert not (tmp_path / "cut" / "lora_adapter").exists()
    resumed = train(config("cut", method=method, resume_from_checkpoint="auto"))

    assert events(tmp_path / "cut", "resume")[0]["checkpoint"].endswith(f"checkpoint-{stop // 5 * 5}")
    for a, b in ((whole, resumed), (final, tmp_path / "cut" / final.name)):
        one, two = load_file(a / "adapter_model.safetensors"), load_file(b / "adapter_model.safetensors")
        assert all(one[key].equal(two[key]) for key in one)
    assert losses(tmp_path / "cut")[-8:] == losses(tmp_path / "whole")[-8:]


def test_log_grows_and_summary_is_last_and_best_is_saved(config, tmp_path):
    adapter = train(config())
    lines = [json.loads(line) for line in (tmp_path / "run" / "train_results.json").read_text().splitlines()]
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "summary"
    evals = events(tmp_path / "run", "eval")
    best = max(evals, key=lambda entry: (entry["dev_accuracy"], -entry["step"]))
    assert lines[-1]["dev_accuracy"] == best["dev_accuracy"]
    saved = load_file(adapter / "adapter_model.safetensors")
    kept = load_file(tmp_path / "run" / f"checkpoint-{best['step']}" / "adapter_model.safetensors")
    assert all(saved[key].equal(kept[key]) for key in saved)
    manifest = open_artifact(adapter).manifest
    assert manifest.training["result"]["n_train"] == lines[-1]["n_train"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert not list((tmp_path / "run").rglob("*.bin"))  # no pickled arguments
    assert not list((tmp_path / "run").rglob("training_args*"))


def test_broken_checkpoints_are_passed_over_and_other_settings_refused(config, tmp_path, capsys):
    train(config())
    found = sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (found[-1] / "optimizer.pt").unlink()
    (found[-2] / "zhsenti_checkpoint.json").unlink()
    train(config(resume_from_checkpoint="auto"))
    said = capsys.readouterr().err.replace("\n", "")
    assert "optimizer.pt" in said
    assert "没有完成标记" in said
    assert events(tmp_path / "run", "resume")[0]["checkpoint"] == str(found[-3])
    with pytest.raises(TrainingError, match="learning_rate"):
        train(config(resume_from_checkpoint="auto", learning_rate=1e-3))
    with pytest.raises(TrainingError, match="max_train_samples"):
        train(config(resume_from_checkpoint=str(found[-3]), max_train_samples=50))
    with pytest.raises(TrainingError, match="文件夹不存在"):
        train(config(resume_from_checkpoint=str(tmp_path / "none")))


def test_a_new_run_keeps_the_old_one(config, tmp_path):
    train(config())
    before = losses(tmp_path / "run")
    train(config(seed=1))
    (kept,) = (tmp_path / "run").glob("previous-*")
    assert losses(kept) == before
    assert open_artifact(kept / "lora_adapter").manifest.data["seed"] == 42
    assert open_artifact(tmp_path / "run" / "lora_adapter").manifest.data["seed"] == 1


def test_early_stopping_stops(config, tmp_path):
    train(config(early_stopping=1, learning_rate=1e-9, num_epochs=20))
    assert events(tmp_path / "run", "summary")[0]["steps"] == 10


def test_gradient_checkpointing_changes_no_loss(config, tmp_path):
    train(config("plain", lora_dropout=0.0))
    train(config("saving", lora_dropout=0.0, gradient_checkpointing=True))
    assert losses(tmp_path / "saving") == pytest.approx(losses(tmp_path / "plain"), abs=1e-5)


def test_micro_batches_do_not_change_the_update(config, tmp_path):
    """4 x 2 and 8 x 1 see other batches, so compare one whole-set update: 96 x 1 against 16 x 6."""
    for name, batch, steps in (("one", 96, 1), ("six", 16, 6)):
        train(config(name, lora_dropout=0.0, batch_size=batch, gradient_accumulation_steps=steps, num_epochs=3))
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "six"), abs=1e-4)


@pytest.mark.parametrize("method", list(METHODS))
def test_qlora_trains_and_reloads(config, method, tmp_path):
    from zhsenti.prediction.predictor import SentimentPredictor

    adapter = train(config(use_qlora=True, num_epochs=1, method=method))
    predictor = SentimentPredictor.from_folder(adapter)
    kinds = {type(module).__name__ for module in predictor._scorer.modules()}
    assert "Linear4bit" in kinds
    assert predictor.predict("酒店很好").label in ("正面", "负面")


def test_one_class_is_refused_and_nothing_written(config, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("text,label\n" + "".join(f"很好{i},1\n" for i in range(50)), encoding="utf-8")
    with pytest.raises(DataError, match="一类"):
        train(config(dataset=str(path)))
    assert not (tmp_path / "run").exists()


def test_unwritable_output_is_refused_before_anything(config, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(ConfigError, match="不可写"):
        train(config(output_dir=str(blocker / "sub")))


def test_results_of_a_failed_save_leave_the_old_adapter(config, tmp_path, monkeypatch):
    adapter = train(config())
    before = shutil.copytree(adapter, tmp_path / "copy")
    monkeypatch.setattr("zhsenti.artifact.seal", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(TrainingError, match="适配器写不进磁盘"):
        train(config(seed=3))
    assert open_artifact(adapter).manifest == open_artifact(before).manifest
