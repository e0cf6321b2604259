"""torch, the GPU and its driver."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.doctor.helpers import one
from zhsenti.doctor import accelerator
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM
from zhsenti.doctor.probe import Imported, try_four_bits

CPU = {"version": "2.13.0+cpu", "cuda": None, "threads": 4, "gpus": [], "gpu_error": "", "precision": "bf16"}
CARD = {"name": "RTX 4090", "free": 22e9, "total": 24e9, "bf16": True, "error": ""}
QUANTISER = Imported(facts={"four_bits": [""]})
RTX = accelerator.Driver((("RTX 4090", "550.54"),))


def facts(**changes) -> Imported:
    return Imported(facts={**CPU, **changes})


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, OK, "CPU 版"),
        ({"cuda": "12.8"}, OK, "CUDA 12.8"),
        ({"precision": "fp32"}, NOTICE, "7.2 GB"),
        ({"threads": 1}, NOTICE, "太少"),
        ({"threads": 64}, NOTICE, "太多"),
    ],
)
def test_torch(monkeypatch, changes, status, word):
    monkeypatch.setattr(accelerator, "usable_cpus", lambda: 4)
    found = one(accelerator.torch(facts(**changes)))
    assert (found.status, word in found.found) == (status, True)


def test_a_containers_cpu_quota_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(accelerator, "CPU_QUOTA", tmp_path / "cpu.max")
    free = accelerator.usable_cpus()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert accelerator.usable_cpus() == free
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert accelerator.usable_cpus() == 1


@pytest.mark.parametrize(
    ("changes", "seen", "status", "word"),
    [
        ({}, accelerator.Driver(), NOTICE, "没有 NVIDIA 显卡"),
        ({}, accelerator.Driver(error="nvidia-smi：Driver/library version mismatch"), NOTICE, "mismatch"),
        ({}, RTX, NOTICE, "CPU 版"),
        ({"cuda": "12.8", "gpu_error": "RuntimeError: driver is too old"}, RTX, PROBLEM, "too old"),
        ({"cuda": "12.8", "gpus": [CARD]}, RTX, OK, "驱动 550.54"),
        ({"cuda": "12.8", "gpus": [CARD]}, accelerator.Driver(), OK, "有 bf16"),
        ({"cuda": "12.8", "gpus": [CARD]}, RTX, OK, "试算：bf16 乘法可用，4 比特（QLoRA）可用"),
        ({"cuda": "12.8", "gpus": [{**CARD, "bf16": False}]}, RTX, OK, "没有 bf16"),
        ({"cuda": "12.8", "gpus": [{**CARD, "bf16": False}]}, RTX, OK, "fp16 乘法可用"),
        ({"cuda": "12.8", "gpus": [{**CARD, "free": 3.6e9, "total": 4.2e9}]}, RTX, OK, "空闲 3.6 GB"),
        ({"cuda": "12.8", "gpus": [{**CARD, "free": 1e9}]}, RTX, NOTICE, "空闲 1.0 GB"),
        ({"cuda": "12.8", "gpus": [{**CARD, "error": "no kernel image"}]}, RTX, PROBLEM, "no kernel image"),
    ],
)
def test_gpu(changes, seen, status, word):
    found = one(accelerator.gpu(facts(**changes), seen, QUANTISER))
    assert (found.status, word in found.found) == (status, True), found


def test_four_bits_are_tried_on_each_card():
    two = facts(cuda="12.8", gpus=[CARD, CARD])
    good, bad = accelerator.gpu(two, RTX, Imported(facts={"four_bits": ["", "RuntimeError: no kernel image"]}))
    assert (good.status, bad.status) == (OK, NOTICE)
    assert "4 比特（QLoRA）用不了：RuntimeError: no kernel image" in bad.found
    assert "bitsandbytes" in bad.todo
    missing = one(accelerator.gpu(facts(cuda="12.8", gpus=[CARD]), RTX, Imported("No module named 'bitsandbytes'")))
    assert (missing.status, "用不了：bitsandbytes 不能导入" in missing.found) == (NOTICE, True)


def test_what_is_tried_with_four_bits():
    import bitsandbytes

    assert try_four_bits(bitsandbytes, "cpu") == ""
    assert try_four_bits(SimpleNamespace(), "cpu").startswith("AttributeError")
    same = SimpleNamespace(quantize_4bit=lambda x, **_: (x, None), dequantize_4bit=lambda x, _: x + 1)
    assert try_four_bits(SimpleNamespace(functional=same), "cpu") == "压缩再还原后差 1.00"


def test_a_hidden_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "遮住" in one(accelerator.gpu(facts(cuda="12.8"), RTX, QUANTISER)).found


def test_nvidia_smi(monkeypatch, tmp_path):
    def smi(script: str) -> accelerator.Driver:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return accelerator.driver()

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert smi("echo 'RTX 4090, 550.54'").cards == (("RTX 4090", "550.54"),)
    assert "mismatch" in smi("echo 'Driver/library version mismatch'; exit 18").error
    assert smi("exit 9").error == "nvidia-smi：退出代码 9"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert accelerator.driver() == accelerator.Driver()
