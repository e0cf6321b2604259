"""Python, memory, disks, limits and encodings, in good and bad surroundings."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections import namedtuple
from functools import partial

import psutil
import pytest

from tests.doctor.helpers import one, sealed_model
from zhsenti.core import container
from zhsenti.doctor import machine
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM
from zhsenti.training.memory import Shape, memory_bytes
from zhsenti.training.plan import smallest_fit
from zhsenti.training.prepare import FREE_SHARE

Usage = namedtuple("Usage", "total used free")


def test_python(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/home/me/.venv")
    assert one(machine.python()).status == OK
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert ".venv" in one(machine.python()).todo
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert (one(machine.python()).status, "32 位" in one(machine.python()).found) == (PROBLEM, True)
    monkeypatch.setattr(sys, "maxsize", 2**63 - 1)
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    assert one(machine.python()).status == PROBLEM


@pytest.mark.parametrize(("free", "status"), [(1.2e9, PROBLEM), (3e9, NOTICE), (5e9, OK), (20e9, OK)])
def test_memory(monkeypatch, free, status):
    monkeypatch.setattr(container, "MEMORY", ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Ram", "total available")(32e9, free))
    found = one(machine.memory())
    assert found.status == status
    assert ("1.5B" in found.found) == (free == 20e9)


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Ram", "total available")(32e9, 20e9))
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(container, "MEMORY", ((tmp_path / "none", tmp_path / "none"), (limit, used)))
    used.write_text("1500000000\n")
    limit.write_text("max\n")
    assert one(machine.memory()).status == OK
    limit.write_text("2000000000\n")
    found = one(machine.memory())
    assert found.status == PROBLEM
    assert "容器限额 2.0 GB，还可用 0.5 GB" in found.found


def test_memory_figures_are_the_plans():
    small, larger = (
        Shape(24, 896, 896, 128, 4864, 151936 * 896),
        Shape(28, 1536, 1536, 256, 8960, 151936 * 1536),
    )
    default = partial(memory_bytes, tokens=1536, weight_bytes=2, checkpointing=False, qlora=False, lora_r=8)
    assert default(small) == pytest.approx(machine.TRAIN_DEFAULT, rel=0.05)
    assert default(small, weight_bytes=4) == pytest.approx(machine.TRAIN_DEFAULT_FP32, rel=0.05)
    assert default(larger) == pytest.approx(machine.TRAIN_LARGER, rel=0.05)
    least = default(small, tokens=256, checkpointing=True, qlora=True)
    assert least == pytest.approx(machine.TRAIN_SMALLEST, rel=0.05)
    fixed = {"longest": 256, "update": 4096, "device": "cuda", "weight_bytes": 2, "lora_r": 8}
    on_gpu = smallest_fit(larger, **fixed, checkpointing=False, qlora=None).memory / FREE_SHARE
    assert on_gpu == pytest.approx(machine.TRAIN_LARGER_GPU, rel=0.05)


def test_disks_with_room_and_without(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(1e12, 0, 9e11))
    assert [found.status for found in machine.disks()] == [OK, OK]
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(1e12, 0, 1e8))
    kept, here = machine.disks()
    assert (kept.status, here.status) == (PROBLEM, PROBLEM)
    assert "ZHSENTI_CACHE" in kept.todo
    assert "--output_dir" in here.todo
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"), [(errno.EROFS, "只读"), (errno.EACCES, "权限"), (errno.ENOSPC, "写满"), (errno.EIO, "写不了")]
)
def test_disks_that_cannot_be_written(monkeypatch, tmp_path, number, word):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for found in machine.disks():
        assert (found.status, word in found.found) == (PROBLEM, True)
    sealed_model(tmp_path / "cache" / "models" / "embedded")
    kept, here = machine.disks()
    assert (kept.status, here.status) == (NOTICE, PROBLEM), "a model that is there can still be read"


def test_a_cache_folder_that_is_a_file(tmp_path):
    (tmp_path / "cache").write_text("")
    assert next(iter(machine.disks())).status == PROBLEM


def test_limits(monkeypatch, tmp_path):
    import resource

    monkeypatch.setattr(machine, "SHM", tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(8e9, 0, 8e9))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    assert [found.status for found in machine.limits()] == [OK, OK]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(64 * 2**20, 0, 64 * 2**20))
    files, shared = machine.limits()
    assert (files.status, files.todo) == (NOTICE, "ulimit -n 4096")
    assert (shared.status, "--shm-size" in shared.todo) == (NOTICE, True)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    assert next(iter(machine.limits())).todo.startswith("ulimit -n 512")


def test_encodings(monkeypatch):
    monkeypatch.setattr(machine.locale, "getpreferredencoding", lambda _: "UTF-8")
    assert one(machine.encodings("utf8")).status == OK
    found = one(machine.encodings("gbk"))
    assert (found.status, "标准输出 gbk" in found.found) == (NOTICE, True)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "unset PYTHONIOENCODING" in one(machine.encodings("ascii")).todo
