from __future__ import annotations

import itertools

import pytest
import torch

from zhsenti.core import container
from zhsenti.core.errors import ConfigError
from zhsenti.training.plan import Shape, fit_memory, memory_bytes, parse_bytes, smallest_fit
from zhsenti.training.resources import free_memory

QWEN_05B = Shape(24, 896, 896, 128, 4864, 151936 * 896)
QWEN_15B = Shape(28, 1536, 1536, 256, 8960, 151936 * 1536)
OPTIONS = {
    "longest": 256,
    "device": "cpu",
    "weight_bytes": 2,
    "lora_r": 8,
    "checkpointing": False,
    "qlora": None,
}


def test_shape_counts_what_transformers_counts(tiny_model, tiny_qwen3):
    from transformers import AutoConfig, AutoModelForCausalLM

    for folder in (tiny_model, tiny_qwen3):
        shape = Shape.of(AutoConfig.from_pretrained(folder))
        model = AutoModelForCausalLM.from_pretrained(folder)
        matrices = [m.weight for n, m in model.model.named_modules() if isinstance(m, torch.nn.Linear)]
        assert shape.dense == sum(weight.numel() for weight in matrices)
        assert shape.lora(3) == sum(3 * sum(weight.shape) for weight in matrices)
        assert shape.embedding == model.model.embed_tokens.weight.numel()
    assert QWEN_05B.dense == 357_826_560


def test_less_memory_means_smaller_passes_then_recomputation_then_four_bits():
    fits = [fit_memory(QWEN_15B, gb * 1e9, **OPTIONS) for gb in (40, 5.5, 4.6, 3, 2)]
    kinds = [fit and (fit.micro_tokens, fit.checkpointing, fit.qlora) for fit in fits]
    assert kinds[0] == (1536, False, False)
    assert kinds[-1] is None
    order = [kind and (kind[2], kind[1], -kind[0]) for kind in kinds[:-1]]
    assert order == sorted(order)
    assert [fit.memory <= gb * 1e9 for fit, gb in zip(fits[:4], (40, 5.5, 4.6, 3), strict=True) if fit] == [True] * len(
        [fit for fit in fits if fit]
    )


def test_what_the_user_fixed_is_kept():
    assert fit_memory(QWEN_15B, 3e9, **{**OPTIONS, "qlora": False}) is None
    assert fit_memory(QWEN_15B, 40e9, **{**OPTIONS, "qlora": True}).qlora
    assert fit_memory(QWEN_15B, 40e9, **{**OPTIONS, "checkpointing": True}).checkpointing
    least = smallest_fit(QWEN_15B, **OPTIONS)
    assert (least.micro_tokens, least.checkpointing, least.qlora) == (256, True, True)


def test_estimate_grows_with_tokens_and_a_long_row_counts_whole():
    common = {"weight_bytes": 2, "qlora": False, "lora_r": 8}
    estimates = [memory_bytes(QWEN_05B, tokens=t, checkpointing=False, **common) for t in (256, 512, 1024, 2048)]
    assert all(a < b for a, b in itertools.pairwise(estimates))
    assert memory_bytes(QWEN_05B, tokens=1024, checkpointing=True, **common) < estimates[2]
    long = fit_memory(QWEN_05B, 100e9, **{**OPTIONS, "longest": 8000})
    assert long.memory == memory_bytes(QWEN_05B, tokens=8000, checkpointing=False, **common)


@pytest.mark.parametrize(
    ("text", "expected"), [("4GB", 4e9), ("3.5 GiB", 3.5 * 2**30), ("800mb", 8e8), ("2G", 2e9), ("1000000", 1e6)]
)
def test_sizes(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "四GB", "-1GB", "4 TB", "0GB", "4GBB"])
def test_bad_sizes_are_explained(text):
    with pytest.raises(ConfigError, match="4GB"):
        parse_bytes(text)


def test_free_memory_is_at_least_what_the_process_holds():
    import psutil

    assert free_memory(torch.device("cpu")) > psutil.Process().memory_info().rss


def test_free_memory_ends_at_the_containers_limit_in_either_version(tmp_path, monkeypatch):
    import psutil

    limit, used = tmp_path / "limit_in_bytes", tmp_path / "usage_in_bytes"
    limit.write_text("3000000\n")
    used.write_text("2000000\n")
    monkeypatch.setattr(container, "MEMORY", ((tmp_path / "none", tmp_path / "none"), (limit, used)))
    held = psutil.Process().memory_info().rss
    assert free_memory(torch.device("cpu")) < held + 100e6, "1 MB is left of the limit; what the test holds may grow"
