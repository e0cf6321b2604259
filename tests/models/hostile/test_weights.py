"""LoRA settings and weights that zhsenti does not write, or that do not fit each other."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.models.hostile.folders import HEAD, configure, refused, reseal, reweigh
from zhsenti.core.errors import ModelError
from zhsenti.methods import METHODS, get_method
from zhsenti.models.adapter_check import CONFIG, open_adapter
from zhsenti.models.backbone import Tokenizer, load_lora
from zhsenti.models.precision import pick_precision
from zhsenti.task import SentimentTask

QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "会运行文件夹里自带的代码"),
        ({"peft_type": "PREFIX_TUNING"}, "peft_type"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "task_type"),
        ({"task_type": "SEQ_CLS"}, "modules_to_save"),
        ({"layer_replication": [[0, 1000]]}, "layer_replication"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"megatron_core": "os"}, "megatron_core"),
        ({"loftq_config": {"loftq_bits": 4}}, "loftq_config"),
        ({"eva_config": {"rho": 2}}, "eva_config"),
        ({"corda_config": {"a": 1}}, "corda_config"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {".*": 10**6}}, "rank_pattern"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"bias": "all"}, "bias"),
        ({"r": 10**9}, "r = 1000000000"),
        ({"r": 0}, "r = 0"),
        ({"r": True}, "r = true"),
        ({"r": 8}, "r = 8 对不上"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"lora_dropout": "x"}, "lora_dropout"),
        ({"target_modules": "(a+)+$"}, "target_modules"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": ["q_proj"]}, "target_modules 与权重对不上"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
        ({"base_model_name_or_path": 1}, "base_model_name_or_path"),
    ],
)
def test_settings_that_zhsenti_does_not_write_are_refused(adapter, capsys, changes, reason):
    configure(adapter, **changes)
    reseal(adapter)
    assert reason in refused(adapter, capsys)


def test_settings_with_keys_missing_are_refused(adapter, capsys):
    (adapter / CONFIG).write_text("{}")
    reseal(adapter)
    assert "缺 peft_type" in refused(adapter, capsys)


def _rename(tensors, old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


WEIGHT_CHANGES = {
    "no partner": (lambda t: t.pop(QUERY.format("B")), QUERY.format("B")),
    "no layer": (lambda t: [t.pop(QUERY.format(part)) for part in "AB"], QUERY.format("A")),
    "surplus": (lambda t: t.update(extra=torch.zeros(2, 2)), "多出 extra"),
    "another rank": (lambda t: t.update({QUERY.format("A"): torch.zeros(3, 32)}), "与 r = 4 对不上"),
    "another base": (lambda t: t.update({QUERY.format("A"): torch.zeros(4, 33)}), "期望 [4, 32]"),
    "a vector": (lambda t: t.update({QUERY.format("A"): torch.zeros(4)}), "不是浮点矩阵"),
    "integers": (lambda t: t.update({QUERY.format("A"): torch.zeros(4, 32, dtype=torch.int32)}), "不是浮点矩阵"),
    "a layer of no model": (lambda t: [_rename(t, QUERY.format(p), f"base_model.model.x.q_proj.lora_{p}.weight")
                                       for p in "AB"], "q_proj"),
    "NaN": (lambda t: t[QUERY.format("A")].fill_(float("nan")), QUERY.format("A")),
    "infinite": (lambda t: t[QUERY.format("B")][0, 0].fill_(float("-inf")), QUERY.format("B")),
    "none": (lambda t: t.clear(), "没有 LoRA 权重"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHT_CHANGES)
def test_weights_that_do_not_fit_are_named(adapter, tiny_model, capsys, name):
    change, reason = WEIGHT_CHANGES[name]
    reweigh(adapter, change)
    reseal(adapter)
    assert reason in refused(adapter, capsys)
    # peft's way gives as clean a message
    method = get_method("label_scoring")(SentimentTask(), Tokenizer(tiny_model))
    try:
        opened = open_adapter(adapter)
    except ValueError:
        return  # the files by themselves are no adapter
    with pytest.raises(ModelError, match="对不上"):
        load_lora(method.load(tiny_model, pick_precision("fp32")), opened, head=method.head)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update({HEAD: torch.zeros(3, 32)}), "[3, 32]，期望 [2, 32]"),
        (lambda t: t.update({HEAD: torch.zeros(2, 31)}), HEAD),
        (lambda t: t.pop(HEAD), "modules_to_save 与权重对不上"),
        (lambda t: t[HEAD].fill_(float("nan")), "NaN"),
    ],
)
def test_a_head_of_another_task_is_refused(adapters, tmp_path, capsys, change, reason):
    folder = shutil.copytree(adapters["classifier_head"], tmp_path / "a")
    reweigh(folder, change)
    reseal(folder)
    assert reason in refused(folder, capsys)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_the_other_method_is_refused(adapters, tmp_path, capsys, method):
    folder = shutil.copytree(adapters[method], tmp_path / "a")
    reseal(folder, method=next(name for name in METHODS if name != method))
    assert HEAD in refused(folder, capsys)
