"""What a checkpoint is, which ones count, and what a run does with them when it goes on."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.doomed import events, same, weights
from zhsenti.core.errors import TrainingError
from zhsenti.training.checkpoints import MARK, checkpoints, fault_of, find_checkpoint, prune
from zhsenti.training.run import train


@pytest.fixture
def finished(config, tmp_path):
    train(config(num_epochs=1))
    return tmp_path / "run"


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(data if how == "bit" else b"" if how == "empty" else bytes(data[: len(data) // 2]))


def test_every_damage_to_every_file_is_noticed(finished):
    checkpoint = checkpoints(finished)[0]
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


def test_a_mark_that_was_edited_is_noticed(finished):
    checkpoint = checkpoints(finished)[0]
    mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    mark["identity"]["config"]["learning_rate"] = 1.0
    (checkpoint / MARK).write_text(json.dumps(mark), encoding="utf-8")
    assert "校验值" in fault_of(checkpoint)


def test_broken_ones_are_set_aside_with_the_reason_and_never_counted(finished):
    last, before, *_ = checkpoints(finished)
    damage(last / "optimizer.pt", "half")
    prune(finished, keep=1)
    assert [p.name for p in checkpoints(finished)] == [last.name, before.name], "the last whole one is never deleted"
    found, notes = find_checkpoint("auto", finished)
    assert found == before
    assert "optimizer.pt" in notes[0]
    (aside,) = (finished / "broken").iterdir()
    assert aside.name.startswith(last.name)
    assert "optimizer.pt" in (aside / "原因.txt").read_text(encoding="utf-8")
    assert checkpoints(finished) == [before]


def test_a_pickle_in_a_checkpoint_is_not_run(config, finished, tmp_path):
    """Someone else's checkpoint, sealed well, whose optimizer state would run a command when unpickled."""
    from zhsenti.training.checkpoints import commit, read_mark

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    checkpoint = checkpoints(finished)[1]
    mark = read_mark(checkpoint)
    for name in ("optimizer.pt", "rng_state.pth"):
        hostile = tmp_path / "hostile"
        target = checkpoint.rename(hostile)
        before = (target / name).read_bytes()
        torch.save({"state": Payload()}, target / name)
        (target / MARK).unlink()
        commit(target, checkpoint, mark["identity"], **{k: mark[k] for k in ("step", "micro_tokens", "seconds")})
        with pytest.raises(TrainingError, match="读不出来"):
            train(config(num_epochs=1, resume_from_checkpoint=str(checkpoint)))
        assert not (tmp_path / "owned").exists()
        (checkpoint / name).write_bytes(before)


def test_every_difference_is_listed_by_its_name(config, finished, tmp_path, review_csv):
    other = tmp_path / "other.csv"
    other.write_text(review_csv.read_text(encoding="utf-8").replace("第3次", "第三次"), encoding="utf-8")
    task = {"template": "评价：{text}\n倾向：", "labels": ["负面", "正面"], "words": ["差", "好"]}
    changed = config(num_epochs=1, resume_from_checkpoint="auto", dataset=str(other), seed=7, lora_r=4, task=task)
    with pytest.raises(TrainingError) as caught:
        train(changed)
    for part in ("seed：42 → 7", "lora_r：8 → 4", "task.template", "task.words", "数据（SHA-256）"):
        assert part in str(caught.value)


def test_a_finished_run_resumes_to_the_same_end_without_a_step(config, tmp_path):
    """Also where the last step is in the middle of an epoch: nothing is trained on top."""
    adapter = train(config(num_epochs=1.5))
    before = load_file(adapter / "adapter_model.safetensors")
    steps = events(tmp_path / "run", "summary")[0]["steps"]
    train(config(num_epochs=1.5, resume_from_checkpoint="auto"))
    assert same(load_file(adapter / "adapter_model.safetensors"), before)
    assert events(tmp_path / "run", "summary")[1]["steps"] == steps
    assert not (tmp_path / "run" / f"checkpoint-{steps + 1}").exists()


def test_a_run_that_had_stopped_early_does_not_go_on(config, tmp_path):
    settings = {"early_stopping": 1, "learning_rate": 1e-9, "num_epochs": 20}
    train(config(**settings))
    train(config(**settings, resume_from_checkpoint="auto"))
    assert [entry["steps"] for entry in events(tmp_path / "run", "summary")] == [10, 10]


def test_early_stopping_counts_on_across_a_resume(config, tmp_path, stop_at):
    settings = {"early_stopping": 2, "learning_rate": 1e-9, "num_epochs": 20}
    with stop_at(12), pytest.raises(KeyboardInterrupt):
        train(config(**settings))
    train(config(**settings, resume_from_checkpoint="auto"))
    assert events(tmp_path / "run", "summary")[0]["steps"] == 15


def test_odd_marks_and_unreadable_files_are_broken_ones(finished, monkeypatch):
    checkpoint = checkpoints(finished)[0]
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


def test_a_refused_resume_touches_nothing(config, finished):
    before = sorted(p.relative_to(finished) for p in finished.rglob("*"))
    with pytest.raises(TrainingError, match="seed"):
        train(config(num_epochs=1, seed=7, save_total_limit=1, resume_from_checkpoint="auto"))
    assert sorted(p.relative_to(finished) for p in finished.rglob("*")) == before


def test_going_back_to_an_earlier_checkpoint_keeps_the_later_ones_out_of_the_way(config, finished, tmp_path):
    whole = weights(finished)
    names = [p.name for p in checkpoints(finished)]
    early = checkpoints(finished)[-1]
    train(config(num_epochs=1, save_total_limit=1, resume_from_checkpoint=str(early)))
    assert same(weights(finished), whole)
    (moved,) = finished.glob("previous-*")
    assert sorted(p.name for p in moved.iterdir()) == sorted(names[:-1])
    assert [p.name for p in checkpoints(finished)] == names[:1]
    # Into another folder, where another run's checkpoints lie.
    train(config("other", seed=9))
    taken = str(moved / names[-2])
    train(config("other", num_epochs=1, save_total_limit=1, resume_from_checkpoint=taken))
    assert same(weights(tmp_path / "other"), whole)
    assert [p.name for p in checkpoints(tmp_path / "other")] == names[:1]


def test_a_copy_under_another_name_can_be_resumed(config, finished):
    whole, early = weights(finished), checkpoints(finished)[-1]
    backup = early.rename(finished / "backup")
    train(config(num_epochs=1, resume_from_checkpoint=str(backup)))
    assert same(weights(finished), whole)


def test_an_adapter_alone_is_kept_too(config, finished):
    before = weights(finished)
    for path in [*checkpoints(finished), finished / "tensorboard"]:
        path.rename(finished.parent / path.name)
    (finished / "train_results.json").unlink()
    train(config(num_epochs=1, seed=3))
    (kept,) = finished.glob("previous-*")
    assert same(weights(kept), before)


def test_time_and_speed_count_all_parts_of_a_run(config, tmp_path):
    train(config(num_epochs=1))
    train(config(num_epochs=1, resume_from_checkpoint="auto"))
    first, second = events(tmp_path / "run", "summary")
    assert second["seconds"] == pytest.approx(first["seconds"], abs=1.0)
    assert second["reviews_per_second"] > 0


def test_four_bits_once_decided_stay(config, tmp_path):
    """Free memory is another at every start; the base is not."""
    train(config(num_epochs=1, lora_dropout=0.0, use_qlora=True))
    train(config(num_epochs=1, lora_dropout=0.0, resume_from_checkpoint="auto"))
    assert len(events(tmp_path / "run", "summary")) == 2


def test_a_moved_run_goes_on(config, tmp_path):
    """No checkpoint names the place it was written in."""
    train(config("here", num_epochs=1))
    whole = weights(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    discard_last = checkpoints(tmp_path / "there")[0]
    for path in discard_last.iterdir():
        path.unlink()
    train(config("there", num_epochs=1, resume_from_checkpoint="auto"))
    assert same(weights(tmp_path / "there"), whole)


def test_an_adapter_behind_a_link_is_not_lost_and_leaves_no_litter(config, finished, tmp_path):
    before = weights(finished)
    (finished / "lora_adapter").rename(tmp_path / "elsewhere")
    (finished / "lora_adapter").symlink_to(tmp_path / "elsewhere")
    train(config(num_epochs=1, seed=3))
    assert same(load_file(tmp_path / "elsewhere" / "adapter_model.safetensors"), before)
    assert not same(weights(finished), before)
    assert [p.name for p in finished.iterdir() if p.name.startswith(".")] == [".lock"]
