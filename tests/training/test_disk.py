"""Runs without room on the disk: said before they start, and a checkpoint lost rather than the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.doomed import events, run, same, weights
from zhsenti.core.errors import TrainingError
from zhsenti.training.checkpoints import checkpoints
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.resources import check_space
from zhsenti.training.run import train


def test_a_disk_too_small_is_found_before_training(config, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1e6})())
    with pytest.raises(TrainingError, match=r"磁盘空间不够[\s\S]*至少[\s\S]*剩 1\.0 MB[\s\S]*save_total_limit"):
        train(config())
    assert not (tmp_path / "run").exists()


def test_space_is_counted_where_the_folder_will_be(tmp_path):
    check_space(tmp_path / "not" / "yet" / "there", 1e3, [])
    with pytest.raises(TrainingError, match="磁盘空间不够"):
        check_space(tmp_path / "not" / "yet" / "there", 1e18, [])


def test_a_full_disk_costs_a_checkpoint_not_the_run(config, tmp_path, monkeypatch, capsys):
    """The disk is full while the best adapter of the run comes by; it is kept in memory and in the next checkpoint."""
    train(config("whole"))
    best = events(tmp_path / "whole", "summary")[0]["best_step"]
    real = SentimentTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == best or self.state.global_step < 10:
            (Path(folder) / "optimizer.pt").write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")  # torch's word for it
        real(self, folder)

    monkeypatch.setattr(SentimentTrainer, "_save_optimizer_and_scheduler", full)
    train(config("full"))
    said = capsys.readouterr().err.replace("\n", "")
    assert f"第 {best} 步的检查点没存下" in said
    assert "训练继续，下次再存；还没有" in said
    assert same(weights(tmp_path / "full"), weights(tmp_path / "whole"))
    assert not [p.name for p in (tmp_path / "full").iterdir() if p.name.startswith(".") and p.name != ".lock"]


def test_no_file_can_be_written_at_all(command, tmp_path):
    """Every file is refused at 20 kB: no checkpoint, no adapter; one message, and the run got to its end."""
    output, log = tmp_path / "run", tmp_path / "log"
    done = run(command(output), log, file_limit=20_000)
    assert done.code == 2, done.said
    assert "Traceback" not in done.said
    assert "的检查点没存下" in done.said
    assert "训练 6/6 步" in done.said
    assert "错误：训练完成了，但适配器写不进磁盘" in done.said
    assert not checkpoints(output)
    assert not (output / "lora_adapter").exists()
    done = run(command(output), log)  # with room again
    assert done.code == 0, done.said


def test_a_bug_is_no_full_disk(config, monkeypatch):
    def buggy(self, folder):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(SentimentTrainer, "_save_optimizer_and_scheduler", buggy)
    with pytest.raises(RuntimeError, match="size of tensor"):
        train(config())
