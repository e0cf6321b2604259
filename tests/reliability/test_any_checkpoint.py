"""Whatever checkpoint a training is resumed from, it ends in words."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from tests.reliability.hostile_files import make_loop
from tests.reliability.words import ends_in_words, train
from tests.tiny_models import train_flags
from zhsenti.artifact import seal
from zhsenti.core.hashing import json_sha256
from zhsenti.training.checkpoints import MARK, SECTIONS, checkpoints, read_mark


@pytest.fixture
def whole(trained):
    """The last checkpoint of a run."""
    return checkpoints(trained("label_scoring"))[1]


@pytest.fixture
def argv(tiny_model, review_csv):
    """The flags of that run."""
    return train_flags(tiny_model, review_csv, "label_scoring")


def of_mark(**changes: object) -> Callable[[Path], object]:
    """The mark with other values, and the hashes right again."""

    def change(folder: Path) -> None:
        values = read_mark(folder) | changes
        identity = values["identity"]
        with contextlib.suppress(TypeError, KeyError):
            values["hashes"] = {key: json_sha256(identity[key]) for key in SECTIONS}
        (folder / MARK).write_text(json.dumps(values), encoding="utf-8")

    return change


def of_identity(section: str, value: object) -> Callable[[Path], object]:
    return lambda folder: of_mark(identity=read_mark(folder)["identity"] | {section: value})(folder)


def mark_is(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / MARK).write_bytes(content)


def mark_is_made(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / MARK).unlink()
        make(folder / MARK)

    return change


def resealed(name: str, content: bytes | Callable[[bytes], bytes] | None) -> Callable[[Path], object]:
    """As an attacker would: another file, and a mark that is right for it."""

    def change(folder: Path) -> None:
        mark = read_mark(folder)
        before = (folder / name).read_bytes() if (folder / name).exists() else b""
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content(before) if callable(content) else content)
        seal(folder, MARK, {key: value for key, value in mark.items() if key != "files"})

    return change


def state_with(**changes: object) -> Callable[[Path], object]:
    return resealed("trainer_state.json", lambda raw: json.dumps(json.loads(raw) | changes).encode())


def weights_with(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def rewrite(raw: bytes) -> bytes:
        tensors = load(raw)
        change(tensors)
        return save(tensors)

    return rewrite


WEIGHTS = "adapter_model.safetensors"
CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "no mark": lambda folder: (folder / MARK).unlink(),
    "an empty mark": mark_is(b""),
    "a binary mark": mark_is(bytes(range(256))),
    "a deep mark": mark_is(b"[" * 100_000),
    "a list": mark_is(b"[]"),
    "a number": mark_is(b"1"),
    "a pipe for a mark": mark_is_made(os.mkfifo),
    "zeros for a mark": mark_is_made(lambda path: path.symlink_to("/dev/zero")),
    "a folder for a mark": mark_is_made(Path.mkdir),
    "a loop for a mark": mark_is_made(make_loop),
    "files: a list": of_mark(files=[]),
    "files: a list of names": of_mark(files=["optimizer.pt", "scheduler.pt", "trainer_state.json", WEIGHTS,
                                             "rng_state.pth"]),
    "files: paths": of_mark(files={"../x": "0", "/etc/passwd": "0", "a\0": "0"}),
    "files: numbers": of_mark(files={"optimizer.pt": 1}),
    "step: a text": of_mark(step="2"),
    "format: a list": of_mark(format=[]),
    "micro_tokens: infinite": of_mark(micro_tokens=float("inf")),
    "micro_tokens: a list": of_mark(micro_tokens=[]),
    "micro_tokens: huge": of_mark(micro_tokens=10**30),
    "identity: a number": of_mark(identity=5),
    "identity: nothing": of_mark(identity={}),
    "task: a number": of_identity("task", 5),
    "config: a list": of_identity("config", []),
    "config: infinite processes": of_identity("config", {"processes": float("inf")}),
    "config: a billion processes": of_identity("config", {"processes": 10**9}),
    "data: an object": of_identity("data", {"a": [1]}),
    "state: empty": resealed("trainer_state.json", b""),
    "state: binary": resealed("trainer_state.json", bytes(range(256))),
    "state: a list": resealed("trainer_state.json", b"[]"),
    "state: more keys": state_with(code="x"),
    "state: step a text": state_with(global_step="x"),
    "state: step negative": state_with(global_step=-5),
    "state: history of numbers": state_with(log_history=[1]),
    "state: best a text": state_with(best_metric="x"),
    "weights: empty": resealed(WEIGHTS, b""),
    "weights: random": resealed(WEIGHTS, bytes(range(256))),
    "weights: none": resealed(WEIGHTS, weights_with(dict.clear)),
    "weights: another shape": resealed(WEIGHTS, weights_with(
        lambda tensors: tensors.update({name: tensor[:1, :1].contiguous() for name, tensor in tensors.items()}))),
    "weights: NaN": resealed(WEIGHTS, weights_with(lambda tensors: [t.fill_(float("nan")) for t in tensors.values()])),
    "weights: another type": resealed(WEIGHTS, weights_with(
        lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()}))),
    "best: random": resealed("best_adapter.safetensors", bytes(range(256))),
    "optimizer: empty": resealed("optimizer.pt", b""),
    "optimizer: random": resealed("optimizer.pt", bytes(range(256))),
    "optimizer: a scheduler": lambda folder: resealed("optimizer.pt", (folder / "scheduler.pt").read_bytes())(folder),
    "scheduler: random": resealed("scheduler.pt", bytes(range(256))),
    "scheduler: an optimizer": lambda folder: resealed("scheduler.pt", (folder / "optimizer.pt").read_bytes())(folder),
    "randomness: random": resealed("rng_state.pth", bytes(range(256))),
    "randomness: a scheduler": lambda folder: resealed("rng_state.pth", (folder / "scheduler.pt").read_bytes())(folder),
    "no optimizer": resealed("optimizer.pt", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_any_checkpoint_ends_in_words(tmp_path, argv, whole, name):
    """Named, or found as the last one: from a stranger, damaged or forged."""
    for wanted in ("named", "auto"):
        folder = shutil.copytree(whole, tmp_path / wanted / whole.name)
        CHECKPOINTS[name](folder)
        flag = folder if wanted == "named" else "auto"
        ends_in_words(train, *argv, "--output_dir", tmp_path / wanted, "--resume_from_checkpoint", flag)


def test_another_base_or_other_labels_are_another_run(tmp_path, argv, whole, tiny_qwen3):
    shutil.copytree(whole, tmp_path / "run" / whole.name)
    (tmp_path / "task.yaml").write_text("labels: [正面, 负面]\n", encoding="utf-8")
    more = ("--output_dir", "run", "--resume_from_checkpoint", "auto")
    for change, name in ((("--model_name", tiny_qwen3), "基座（SHA-256）"), (("--task", "task.yaml"), "task.labels")):
        code, said = ends_in_words(train, *argv, *more, *change)
        assert code == 2
        assert f"{name}：" in said
    assert checkpoints(tmp_path / "run") == [tmp_path / "run" / whole.name], "it is another run's, not a broken one"
