"""Runs that end before their time: by a signal, without memory, without disk, on numbers that are none."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.doomed import RESUME, outcome, run, same, start, wait_for, weights
from zhsenti.errors import TrainingError
from zhsenti.training import endings, session
from zhsenti.training.checkpoints import MARK, checkpoints, fault_of, find_checkpoint, prune
from zhsenti.training.endings import check_space, is_out_of_memory
from zhsenti.training.loop import SentimentTrainer
from zhsenti.training.run import train


def events(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "train_results.json").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == kind]


# ── signals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_finishes_the_step_saves_and_goes_on_later(command, tmp_path, number, code):
    whole, output, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    assert run(command(whole), tmp_path / "whole.log").code == 0
    process = start(command(output), log, slow_steps=0.8)
    wait_for(log, "步 3/")
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
    train(config("roomy", lora_dropout=0.0, num_epochs=1), "label_scoring")
    short_of_memory(monkeypatch, 3)
    train(config("tight", lora_dropout=0.0, num_epochs=1), "label_scoring")
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
        train(config("saved", lora_dropout=0.0, num_epochs=1), "label_scoring")
    assert "重算激活" in capsys.readouterr().err
    assert events(tmp_path / "saved", "summary")[0]["gradient_checkpointing"] is True
    short_of_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match=r"一条 \d+ token 的评论也放不下"):
        train(config("lost", lora_dropout=0.0), "label_scoring")


# ── numbers that are none ─────────────────────────────────────────────────────────────────────────────────────────────


def test_infinite_loss_stops_the_run_names_the_batch_and_keeps_the_checkpoint(config, tmp_path, monkeypatch):
    step = SentimentTrainer.compute_loss

    def poisoned(self, model, inputs, *args, **kwargs):
        return step(self, model, inputs, *args, **kwargs) * (float("nan") if self.state.global_step == 12 else 1)

    monkeypatch.setattr(SentimentTrainer, "compute_loss", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(config(), "label_scoring")
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
        train(config(max_grad_norm=0.0, save_total_limit=1), "label_scoring")
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
        train(config(), "label_scoring")


# ── disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_disk_too_small_is_found_before_training(config, tmp_path, monkeypatch):
    monkeypatch.setattr(endings.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e6})())
    with pytest.raises(TrainingError, match=r"磁盘空间不够[\s\S]*至少[\s\S]*剩 1 MB[\s\S]*save_total_limit"):
        train(config(), "label_scoring")
    assert not (tmp_path / "run").exists()


def test_space_is_counted_where_the_folder_will_be(tmp_path):
    check_space(tmp_path / "not" / "yet" / "there", 1e3, [])
    with pytest.raises(TrainingError, match="磁盘空间不够"):
        check_space(tmp_path / "not" / "yet" / "there", 1e18, [])


def test_a_full_disk_costs_a_checkpoint_not_the_run(config, tmp_path, monkeypatch, capsys):
    """The disk is full while the best adapter of the run comes by; it is kept in memory and in the next checkpoint."""
    train(config("whole"), "label_scoring")
    best = events(tmp_path / "whole", "summary")[0]["best_step"]
    real = SentimentTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == best or self.state.global_step < 10:
            (Path(folder) / "optimizer.pt").write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")  # torch's word for it
        real(self, folder)

    monkeypatch.setattr(SentimentTrainer, "_save_optimizer_and_scheduler", full)
    train(config("full"), "label_scoring")
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
    assert "步 6/6" in done.said
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


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trained(config, tmp_path):
    train(config(num_epochs=1), "label_scoring")
    return tmp_path / "run"


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(data if how == "bit" else b"" if how == "empty" else bytes(data[: len(data) // 2]))


def test_every_damage_to_every_file_is_noticed(trained):
    checkpoint = checkpoints(trained)[0]
    assert not fault_of(checkpoint)
    files = sorted(checkpoint.iterdir())
    assert len(files) >= 7
    for path, how in itertools.product(files, ("bit", "half", "empty", "gone")):
        before = path.read_bytes()
        path.unlink() if how == "gone" else damage(path, how)
        assert fault_of(checkpoint), (path.name, how)
        path.write_bytes(before)
    (checkpoint / "scaler.pt").write_bytes(b"from a stranger")
    assert "来历不明" in fault_of(checkpoint)
    (checkpoint / "scaler.pt").unlink()
    renamed = checkpoint.rename(checkpoint.with_name("checkpoint-999"))
    assert "属于 checkpoint-" in fault_of(renamed)


def test_a_mark_that_was_edited_is_noticed(trained):
    checkpoint = checkpoints(trained)[0]
    mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    mark["identity"]["config"]["learning_rate"] = 1.0
    (checkpoint / MARK).write_text(json.dumps(mark), encoding="utf-8")
    assert "校验值" in fault_of(checkpoint)


def test_broken_ones_are_set_aside_with_the_reason_and_never_counted(trained):
    last, before, *_ = checkpoints(trained)
    damage(last / "optimizer.pt", "half")
    prune(trained, keep=1)
    assert [p.name for p in checkpoints(trained)] == [last.name, before.name], "the last whole one is never deleted"
    found, notes = find_checkpoint("auto", trained)
    assert found == before
    assert "optimizer.pt" in notes[0]
    (aside,) = (trained / "broken").iterdir()
    assert aside.name.startswith(last.name)
    assert "optimizer.pt" in (aside / "原因.txt").read_text(encoding="utf-8")
    assert checkpoints(trained) == [before]


def test_a_pickle_in_a_checkpoint_is_not_run(config, trained, tmp_path):
    """Someone else's checkpoint, sealed well, whose optimizer state would run a command when unpickled."""
    from zhsenti.training.checkpoints import commit, read_mark

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    checkpoint = checkpoints(trained)[1]
    mark = read_mark(checkpoint)
    for name in ("optimizer.pt", "rng_state.pth"):
        hostile = tmp_path / "hostile"
        target = checkpoint.rename(hostile)
        before = (target / name).read_bytes()
        torch.save({"state": Payload()}, target / name)
        (target / MARK).unlink()
        commit(target, checkpoint, mark["identity"], **{k: mark[k] for k in ("step", "micro_tokens", "seconds")})
        with pytest.raises(TrainingError, match="读不出来"):
            train(config(num_epochs=1, resume_from_checkpoint=str(checkpoint)), "label_scoring")
        assert not (tmp_path / "owned").exists()
        (checkpoint / name).write_bytes(before)


def test_every_difference_is_listed_by_its_name(config, trained, tmp_path, review_csv):
    other = tmp_path / "other.csv"
    other.write_text(review_csv.read_text(encoding="utf-8").replace("第3次", "第三次"), encoding="utf-8")
    task = {"template": "评价：{text}\n倾向：", "labels": ["负面", "正面"], "words": ["差", "好"]}
    changed = config(num_epochs=1, resume_from_checkpoint="auto", dataset=str(other), seed=7, lora_r=4, task=task)
    with pytest.raises(TrainingError) as caught:
        train(changed, "label_scoring")
    for part in ("seed：42 → 7", "lora_r：8 → 4", "task.template", "task.words", "数据（SHA-256）"):
        assert part in str(caught.value)


def test_a_finished_run_resumes_to_the_same_end_without_a_step(config, tmp_path):
    """Also where the last step is in the middle of an epoch: nothing is trained on top."""
    adapter = train(config(num_epochs=1.5), "label_scoring")
    before = load_file(adapter / "adapter_model.safetensors")
    steps = events(tmp_path / "run", "summary")[0]["steps"]
    train(config(num_epochs=1.5, resume_from_checkpoint="auto"), "label_scoring")
    assert same(load_file(adapter / "adapter_model.safetensors"), before)
    assert events(tmp_path / "run", "summary")[1]["steps"] == steps
    assert not (tmp_path / "run" / f"checkpoint-{steps + 1}").exists()


def test_a_run_that_had_stopped_early_does_not_go_on(config, tmp_path):
    settings = {"early_stopping": 1, "learning_rate": 1e-9, "num_epochs": 20}
    train(config(**settings), "label_scoring")
    train(config(**settings, resume_from_checkpoint="auto"), "label_scoring")
    assert [entry["steps"] for entry in events(tmp_path / "run", "summary")] == [10, 10]


def test_early_stopping_counts_on_across_a_resume(config, tmp_path, monkeypatch):
    from tests.training.test_run import StopAt

    settings = {"early_stopping": 2, "learning_rate": 1e-9, "num_epochs": 20}
    real = session.trackers
    monkeypatch.setattr(session, "trackers", lambda *args: [*real(*args), StopAt(12)])
    with pytest.raises(KeyboardInterrupt):
        train(config(**settings), "label_scoring")
    monkeypatch.setattr(session, "trackers", real)
    train(config(**settings, resume_from_checkpoint="auto"), "label_scoring")
    assert events(tmp_path / "run", "summary")[0]["steps"] == 15


def test_odd_marks_and_unreadable_files_are_broken_ones(trained, monkeypatch):
    checkpoint = checkpoints(trained)[0]
    mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    odd = ({"files": []}, {"identity": 1}, {"step": "10"}, {"micro_tokens": 0}, {"format": 1}, {"hashes": None})
    for changes in (*odd, {"identity": {**mark["identity"], "task": []}}):
        (checkpoint / MARK).write_text(json.dumps({**mark, **changes}), encoding="utf-8")
        assert "完成标记不能用" in fault_of(checkpoint), changes
    for text in ("", "[]", "{" * 100_000, '{"files": {}, "files": {}}'):
        (checkpoint / MARK).write_text(text, encoding="utf-8")
        assert "完成标记不能用" in fault_of(checkpoint), text[:20]
    (checkpoint / MARK).write_text(json.dumps(mark), encoding="utf-8")
    assert not fault_of(checkpoint)

    def broken_disk(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("zhsenti.artifact.file_sha256", broken_disk)
    assert "optimizer.pt" in fault_of(checkpoint)


def test_a_refused_resume_touches_nothing(config, trained):
    before = sorted(p.relative_to(trained) for p in trained.rglob("*"))
    with pytest.raises(TrainingError, match="seed"):
        train(config(num_epochs=1, seed=7, save_total_limit=1, resume_from_checkpoint="auto"), "label_scoring")
    assert sorted(p.relative_to(trained) for p in trained.rglob("*")) == before


def test_going_back_to_an_earlier_checkpoint_keeps_the_later_ones_out_of_the_way(config, trained, tmp_path):
    whole = weights(trained)
    names = [p.name for p in checkpoints(trained)]
    early = checkpoints(trained)[-1]
    train(config(num_epochs=1, save_total_limit=1, resume_from_checkpoint=str(early)), "label_scoring")
    assert same(weights(trained), whole)
    (moved,) = trained.glob("previous-*")
    assert sorted(p.name for p in moved.iterdir()) == sorted(names[:-1])
    assert [p.name for p in checkpoints(trained)] == names[:1]
    # Into another folder, where another run's checkpoints lie.
    train(config("other", seed=9), "label_scoring")
    taken = str(moved / names[-2])
    train(config("other", num_epochs=1, save_total_limit=1, resume_from_checkpoint=taken), "label_scoring")
    assert same(weights(tmp_path / "other"), whole)
    assert [p.name for p in checkpoints(tmp_path / "other")] == names[:1]


def test_a_copy_under_another_name_can_be_resumed(config, trained):
    whole, early = weights(trained), checkpoints(trained)[-1]
    backup = early.rename(trained / "backup")
    train(config(num_epochs=1, resume_from_checkpoint=str(backup)), "label_scoring")
    assert same(weights(trained), whole)


def test_an_adapter_alone_is_kept_too(config, trained):
    before = weights(trained)
    for path in [*checkpoints(trained), trained / "tensorboard"]:
        path.rename(trained.parent / path.name)
    (trained / "train_results.json").unlink()
    train(config(num_epochs=1, seed=3), "label_scoring")
    (kept,) = trained.glob("previous-*")
    assert same(weights(kept), before)


def test_time_and_speed_count_all_parts_of_a_run(config, tmp_path):
    train(config(num_epochs=1), "label_scoring")
    train(config(num_epochs=1, resume_from_checkpoint="auto"), "label_scoring")
    first, second = events(tmp_path / "run", "summary")
    assert second["seconds"] == pytest.approx(first["seconds"], abs=1.0)
    assert second["reviews_per_second"] > 0


def test_four_bits_once_decided_stay(config, tmp_path):
    """Free memory is another at every start; the base is not."""
    train(config(num_epochs=1, lora_dropout=0.0, use_qlora=True), "label_scoring")
    train(config(num_epochs=1, lora_dropout=0.0, resume_from_checkpoint="auto"), "label_scoring")
    assert len(events(tmp_path / "run", "summary")) == 2


def test_a_bug_is_no_full_disk(config, monkeypatch):
    def buggy(self, folder):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(SentimentTrainer, "_save_optimizer_and_scheduler", buggy)
    with pytest.raises(RuntimeError, match="size of tensor"):
        train(config(), "label_scoring")


def test_out_of_memory_elsewhere_is_one_message(config, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: torch.empty(2**60))
    with pytest.raises(TrainingError, match=r"内存不足[\s\S]*--resume_from_checkpoint auto"):
        train(config(), "label_scoring")


def test_out_of_memory_in_an_evaluation_halves_too(config, tmp_path, monkeypatch, capsys):
    from zhsenti.methods.base import Scorer

    forward = Scorer.forward

    def limited(self, trie, labels=None, num_items_in_batch=None):
        if labels is None and len(trie.reads) > 2:
            torch.empty(2**60)
        return forward(self, trie, labels, num_items_in_batch)

    train(config("roomy", num_epochs=1), "label_scoring")
    monkeypatch.setattr(Scorer, "forward", limited)
    train(config("tight", num_epochs=1), "label_scoring")
    assert "有效批量不变" in capsys.readouterr().err
    roomy, tight = ([e["dev_loss"] for e in events(tmp_path / name, "eval")] for name in ("roomy", "tight"))
    assert tight == pytest.approx(roomy, rel=0.2)  # dropout's masks differ where updates are cut another way


def test_a_moved_run_goes_on(config, tmp_path):
    """No checkpoint names the place it was written in."""
    train(config("here", num_epochs=1), "label_scoring")
    whole = weights(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    discard_last = checkpoints(tmp_path / "there")[0]
    for path in discard_last.iterdir():
        path.unlink()
    train(config("there", num_epochs=1, resume_from_checkpoint="auto"), "label_scoring")
    assert same(weights(tmp_path / "there"), whole)
