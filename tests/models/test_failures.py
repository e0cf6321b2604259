"""What errors of torch mean, and what loading says where memory or the GPU fails."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import pytest
import torch

from zhsenti.core.errors import DeviceLostError, MemoryShortError, ModelError
from zhsenti.methods import METHODS, get_method
from zhsenti.models import backbone, scoring_model
from zhsenti.models.adapter_check import open_adapter
from zhsenti.models.backbone import LoraOptions, Tokenizer
from zhsenti.models.failures import (
    conversion_errors,
    free_cached_memory,
    is_device_lost,
    is_out_of_memory,
    naming_device_loss,
)
from zhsenti.models.precision import pick_precision
from zhsenti.task import SentimentTask

LOST = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
LORA = LoraOptions(4, 8, 0.0, "all-linear")


@pytest.fixture(autouse=True)
def no_gpu_is_asked(monkeypatch):
    """The same answers on a machine with a GPU, which these errors never came from."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def test_torch_s_own_out_of_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA NVRTC error: NVRTC_ERROR_OUT_OF_MEMORY"),
        RuntimeError("unable to mmap 123 bytes from file <x>: Cannot allocate memory (12)"),
    ],
)
def test_what_cuda_s_libraries_say_when_memory_is_out(error):
    assert is_out_of_memory(error)
    assert not is_device_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(LOST),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA driver error: device not ready"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        DeviceLostError("显卡出错"),
    ],
)
def test_a_lost_device_is_known_and_is_no_want_of_memory(error):
    assert is_device_lost(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError(LOST), OSError(5, LOST)])
def test_other_errors_are_neither(error):
    assert not is_out_of_memory(error)
    assert not is_device_lost(error)


def test_where_there_is_a_gpu_it_decides_whether_it_is_lost(monkeypatch):
    def fail():
        raise torch.AcceleratorError(LOST)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    odd_shape, misleading = RuntimeError("CUDA error: invalid configuration argument"), RuntimeError("Triton Error")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not is_device_lost(odd_shape)
    assert not is_device_lost(misleading)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert is_device_lost(odd_shape)
    assert is_device_lost(misleading)
    # cuBLAS cannot be initialised after a failed assertion either: freeing memory brings the real error out.
    with pytest.raises(DeviceLostError, match="device-side assert"), naming_device_loss():
        free_cached_memory()


def test_dead_cycles_go_before_the_cache_is_emptied(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("empty"))
    free_cached_memory()
    assert done == ["collect", "synchronize", "empty"]


# ── loading ───────────────────────────────────────────────────────────────────────────────────────────────────────

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def build(folder: Path, name: str = "label_scoring", dtype: str = "fp32", **kwargs):
    method = get_method(name)(SentimentTask(), Tokenizer(folder))
    return method.build(folder, pick_precision(dtype), **kwargs)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("place", "flags"),
    [
        ((scoring_model._Files, "get"), {}),
        ((torch.nn.Module, "to"), {"lora": LORA}),
        ((torch.nn.Module, "to"), {"merge": True}),
        ((backbone, "quiet_loading"), {"lora": LORA}),
    ],
    ids=["scoring", "training", "merging", "inside transformers"],
)
def test_memory_that_is_short_while_loading_is_said(name, place, flags, tiny_model, monkeypatch):
    monkeypatch.setattr(*place, failing(CUDA))
    with pytest.raises(MemoryShortError, match="内存不足") as caught:
        build(tiny_model, name, **flags)
    said = caught.value
    assert "Tried to allocate 2.00 GiB" in said.found
    assert "关掉别的占内存、显存的程序" in said.todo
    assert ("--use_qlora" in said.todo) is ("lora" in flags)
    assert "模型文件夹" not in str(said)


def test_memory_that_is_short_for_the_adapter_is_not_the_adapter_s_fault(tiny_model, untrained, monkeypatch):
    from peft import PeftModel

    adapter = open_adapter(untrained("label_scoring"))
    monkeypatch.setattr(PeftModel, "from_pretrained", failing(CUDA))
    with pytest.raises(MemoryShortError, match="内存不足"):
        build(tiny_model, adapter=adapter, merge=True)
    monkeypatch.setattr(PeftModel, "from_pretrained", failing(RuntimeError("size mismatch")))
    with pytest.raises(ModelError, match="与基座对不上"):
        build(tiny_model, adapter=adapter, merge=True)


def test_memory_that_is_short_while_weights_are_quantised_is_said(tiny_model, monkeypatch, capfd):
    """transformers catches what a conversion raises, and only its log says what it was."""
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize

    monkeypatch.setattr(Bnb4bitQuantize, "convert", failing(CUDA))
    with pytest.raises(MemoryShortError, match="内存不足") as caught:
        build(tiny_model, lora=LORA, use_qlora=True)
    assert "Tried to allocate 2.00 GiB" in caught.value.found
    assert "--use_qlora" not in caught.value.todo
    monkeypatch.setattr(Bnb4bitQuantize, "convert", failing(RuntimeError("no kernel")))
    with pytest.raises(ModelError, match="读不了基座模型"):
        build(tiny_model, lora=LORA, use_qlora=True)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_the_log_of_transformers_is_as_it_was_afterwards():
    import logging

    log = logging.getLogger("transformers.modeling_utils")
    before = log.level, log.propagate, list(log.handlers)
    with conversion_errors() as texts:
        log.warning("a report")
    assert texts == ["a report"]
    assert (log.level, log.propagate, list(log.handlers)) == before


def test_a_lost_device_while_loading_is_not_the_folder_s_fault(tiny_model, monkeypatch):
    monkeypatch.setattr(backbone, "quiet_loading", failing(torch.AcceleratorError(LOST)))
    with pytest.raises(DeviceLostError, match="显卡出错"):
        build(tiny_model, lora=LORA)


def test_a_broken_folder_is_still_the_folder_s_fault(tiny_model, monkeypatch):
    monkeypatch.setattr(backbone, "quiet_loading", failing(RuntimeError("Error(s) in loading state_dict")))
    with pytest.raises(ModelError, match="读不了基座模型") as caught:
        build(tiny_model, lora=LORA)
    assert "换一个完整的模型文件夹" in caught.value.todo
