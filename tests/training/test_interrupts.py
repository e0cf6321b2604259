"""Runs that end before their time: by a signal, without memory, without disk, on numbers that are none."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.doomed import RESUME, events, outcome, run, same, start, wait_for, weights
from zhsenti.core.errors import TrainingError
from zhsenti.training import interrupts as endings
from zhsenti.training.checkpoints import MARK, checkpoints, fault_of
from zhsenti.training.interrupts import check_space, is_out_of_memory
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.run import train

# ── signals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_finishes_the_step_saves_and_goes_on_later(command, tmp_path, number, code):
    whole, output, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    assert run(command(whole), tmp_path / "whole.log").code == 0
    process = start(command(output), log, slow_steps=0.8)
    wait_for(log, "训练 3/")
    os.kill(process.pid, number)
    done = outcome(process, log)
    assert done.code == code, done.said
    for part in ("收到停止信号", "已停止，最后完整的检查点是", "checkpoint-", "--resume_from_checkpoint auto"):
        assert part in done.said
    assert "Traceback" not in done.said
    (last, *_) = checkpoints(output)
    assert int(last.name.split("-")[1]) in (3, 4, 5)
    assert not fault_of(last)
    assert events(output, "stop")[0]["signal"] == number
    done = run([*command(output), *RESUME], log)
    assert done.code == 0, done.said
    assert f"从最后一个完整的检查点 {last} 续训" in done.said.replace("\n", "")
    assert same(weights(output), weights(whole))


def test_a_second_signal_stops_at_once(command, tmp_path):
    log = tmp_path / "log"
    process = start(command(tmp_path / "run"), log, slow_steps=60)
    wait_for(log, "内存安排")
    wait_for(tmp_path / "run" / "train_results.json", "start")
    os.kill(process.pid, signal.SIGTERM)
    wait_for(log, "收到停止信号")
    process.join(1.5)
    assert process.exitcode is None, "one signal must not cut the step"
    os.kill(process.pid, signal.SIGTERM)
    assert outcome(process, log, timeout=10).code == -signal.SIGTERM


def test_one_ctrl_c_passed_on_twice_is_one(monkeypatch):
    killed = []
    before_all = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind "&"
    monkeypatch.setattr(endings.os, "kill", lambda *args: killed.append(args))
    monkeypatch.setattr(endings.os, "write", lambda *args: None)
    with endings.StopRequest() as stop:
        stop._receive(signal.SIGINT, None)
        stop._receive(signal.SIGTERM, None)  # a launcher passes it on in another form
        assert (stop.signal, killed) == (signal.SIGINT, [])
        stop._since -= 2
        before = signal.getsignal(signal.SIGINT)
        stop._receive(signal.SIGINT, None)
        assert killed == [(os.getpid(), signal.SIGINT)]
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before_all)


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_torch_s_own_out_of_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


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


# ── numbers that are none ─────────────────────────────────────────────────────────────────────────────────────────────


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


# ── disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_disk_too_small_is_found_before_training(config, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1e6})())
    with pytest.raises(TrainingError, match=r"磁盘空间不够[\s\S]*至少[\s\S]*剩 1 MB[\s\S]*save_total_limit"):
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


def test_log_lines_wait_for_the_disk(tmp_path, monkeypatch):
    from zhsenti.training.callbacks import ResultsLog

    log = ResultsLog(tmp_path / "log.json")
    log.write("one")
    real = Path.open

    def full(path, mode="r", *args, **kwargs):
        stream = real(path, mode, *args, **kwargs)
        if mode == "ab":
            stream.write(b'{"event": "tw')
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        log.write("two")
    assert [entry["event"] for entry in map(json.loads, log.path.read_text().splitlines())] == ["one"]
    log.write("three")
    assert [entry["event"] for entry in map(json.loads, log.path.read_text().splitlines())] == ["one", "two", "three"]


def test_half_a_line_of_a_power_cut_stays_half_a_line(tmp_path):
    from zhsenti.training.callbacks import ResultsLog

    path = tmp_path / "log.json"
    path.write_text('{"event": "one"}\n{"event": "tw', encoding="utf-8")
    ResultsLog(path).write("three")
    assert path.read_text(encoding="utf-8").splitlines()[1] == '{"event": "tw'
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[2])["event"] == "three"


def test_a_tracker_that_fails_is_left_out(tmp_path):
    from transformers import TrainerCallback

    from zhsenti.training.tracking import Expendable

    class Failing(TrainerCallback):
        calls = 0

        def on_log(self, *args, **kwargs):
            self.calls += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    said: list[str] = []
    inner = Failing()
    outer = Expendable(inner, said.append)
    for _ in range(3):
        outer.on_log(None, None, None, logs={})
    assert inner.calls == 1
    assert len(said) == 1
    assert "训练不受影响" in said[0]


def test_a_bug_is_no_full_disk(config, monkeypatch):
    def buggy(self, folder):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(SentimentTrainer, "_save_optimizer_and_scheduler", buggy)
    with pytest.raises(RuntimeError, match="size of tensor"):
        train(config())
