"""Which base and which numbers: one answer for all processes of a run, and what ``auto`` is on a GPU."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from zhsenti.core.errors import ModelError
from zhsenti.models.precision import Precision
from zhsenti.models.sources import LARGE, SMALL, ResolvedModel
from zhsenti.task import SentimentTask
from zhsenti.training import prepare, resources
from zhsenti.training.config import TrainConfig
from zhsenti.training.plan_view import _notices
from zhsenti.training.processes import Processes
from zhsenti.training.rows import read_rows

BF16, CUDA = Precision("bf16", torch.bfloat16), torch.device("cuda")


class Second(Processes):
    """Process 1 of two, which hears what process 0 says, in this order; None: the same as it would say itself."""

    def __init__(self, *said: object) -> None:
        self.rank, self.count = 1, 2
        self.said = itertools.chain(said, itertools.repeat(None))

    def from_main(self, make):
        return next(self.said) or make()

    def copy_from_main(self, tensors) -> None:
        pass


def resolved(model_id: str, source: str, folder: str, revision: str = "r1") -> ResolvedModel:
    return ResolvedModel("auto", model_id, source, Path(folder), revision, f"取自 {source}")


def test_all_processes_compute_in_the_numbers_of_the_first(config, monkeypatch):
    """Cards may differ: one has bf16, the other not."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    made = config(precision="auto")
    task = made.resolved_task()
    rows = read_rows(made, task)
    assert prepare.prepare(made, task, rows, Second()).precision.name == "fp32"
    parts = prepare.prepare(made, task, rows, Second("bf16"))
    assert parts.precision == BF16
    assert parts.identity["config"]["precision"] == "bf16"
    assert any("没有 bf16 乘法" in line for line in _notices(parts))


def test_all_processes_train_the_base_that_the_first_has_chosen(monkeypatch):
    here = {
        "auto": resolved(SMALL, "本地缓存", "/mine/0.5B"),
        LARGE: resolved(LARGE, "ModelScope", "/mine/1.5B", "r2"),
    }
    asked = []

    def resolve(name, *, default=None):
        asked.append((name, default))
        return here[name]

    monkeypatch.setattr(prepare, "resolve_model", resolve)
    wanted, chosen = (LARGE, "首选"), resolved(LARGE, "Hugging Face hub", "/first/1.5B", "r2")
    model = prepare._same_base(TrainConfig(), Second(wanted, chosen), lambda: (SMALL, "不问我"))
    assert asked == [("auto", wanted), (LARGE, None)]
    assert model == dataclasses.replace(chosen, path=Path("/mine/1.5B")), "told as the first tells it"


def test_an_explicit_base_is_never_swapped_and_other_weights_are_refused(monkeypatch):
    mine, asked = resolved(LARGE, "本地缓存", "/mine/1.5B"), []
    monkeypatch.setattr(prepare, "resolve_model", lambda name, *, default=None: asked.append((name, default)) or mine)
    config = TrainConfig(model_name=LARGE)
    never = pytest.fail
    assert prepare._same_base(config, Second(resolved(LARGE, "hub", "/first")), never).path == Path("/mine/1.5B")
    with pytest.raises(ModelError, match="不是同一份权重") as caught:
        prepare._same_base(config, Second(resolved(LARGE, "hub", "/first", "r2")), never)
    assert "第 1 个进程，本地缓存：/mine/1.5B" in str(caught.value)
    assert asked == [(LARGE, None)] * 2


@pytest.mark.parametrize(
    ("changes", "free", "expected"),
    [
        ({}, 22e9, LARGE),
        ({}, 3.6e9, LARGE),  # a card of 4 GB: in 4 bits, recomputing
        ({}, 1.7e9, SMALL),
        ({"use_qlora": False}, 3.6e9, SMALL),
        ({"use_qlora": False}, 5e9, LARGE),
        ({"memory_budget": "1.5GB"}, 22e9, SMALL),
        ({"memory_budget": "4GB"}, 22e9, LARGE),
    ],
)
def test_auto_on_a_gpu_is_what_the_planner_can_train(monkeypatch, changes, free, expected):
    monkeypatch.setattr(prepare, "free_memory", lambda device: free)
    model, why = prepare._default_base(TrainConfig(**changes), SentimentTask(), BF16, CUDA, 1)
    assert model == expected
    assert "估算" in why
    assert f"默认 {'1.5B' if expected == LARGE else '0.5B'}" in why


def test_auto_on_a_cpu_is_the_small_one():
    model, why = prepare._default_base(TrainConfig(), SentimentTask(), BF16, torch.device("cpu"), 1)
    assert (model, why) == (SMALL, "没有显卡，默认 0.5B")


def test_the_largest_update_is_shared_by_all_processes():
    def update(processes: int, longest: int = 50) -> int:
        lengths = [10, 20, 30, 40, 50]
        return prepare._options(TrainConfig(batch_size=3), lengths, longest, BF16, CUDA, processes)["update"]

    assert TrainConfig(batch_size=3).effective_batch == 6
    assert update(1) == 150
    assert update(2) == 50 + 30 + 10
    assert update(8) == 50
    assert update(1, longest=300) == 300, "a dev row counts too"


def test_free_memory_of_a_gpu_counts_what_torch_keeps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3e9, 4e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1e9)
    assert resources.free_memory(CUDA) == 4e9
