"""The C library's memory setting, and which precision a machine gets."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.paths import ROOT
from zhsenti.models.backbone import LoraOptions, add_lora, keep_freed_memory, load_backbone, unwrap
from zhsenti.models.precision import pick_precision, slow_precision

FAULTS = """
import resource
import torch
from zhsenti.models.backbone import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        layers = [torch.ones(4_000_000) for _ in range(8)]  # 16 MB each
        del layers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_kept_for_the_next_pass():
    """In a process of its own: what other tests left in the heap would count too."""
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 31_250  # 8 x 16 MB are 31,250 pages, ten times over


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_: pytest.fail("glibc's function called"))
    keep_freed_memory()


@pytest.mark.parametrize("fast", [True, False])
def test_int8_casts_only_where_the_processor_multiplies_bfloat16(monkeypatch, fast):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    assert pick_precision("int8").autocast is pick_precision("auto").autocast is fast


def test_activations_are_recomputed_with_older_transformers_too(tiny_model, monkeypatch):
    from transformers import PreTrainedModel

    asked = []
    monkeypatch.delattr(PreTrainedModel, "activation_checkpointing_enable", raising=False)
    monkeypatch.setattr(PreTrainedModel, "gradient_checkpointing_enable", lambda self, how: asked.append(how))
    network = add_lora(
        load_backbone(tiny_model, "AutoModelForCausalLM", pick_precision("fp32")), LoraOptions(4, 8, 0.0, "q_proj")
    )
    unwrap(network).activation_checkpointing_enable({"use_reentrant": False})
    assert asked == [{"use_reentrant": False}]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_bf16_that_is_imitated_is_told_with_what_to_do(monkeypatch, gpu, native):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: including_emulation or native)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert slow_precision(pick_precision("auto")) == slow_precision(pick_precision("fp32")) == ""
    said = slow_precision(pick_precision("bf16"))
    assert bool(said) is not native
    assert native or f"--precision {'fp16' if gpu else 'fp32'} 或 auto" in said
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert gpu or slow_precision(pick_precision("bf16")) == "", "nobody has asked this processor"
