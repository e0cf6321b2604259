"""The quick way to a network against transformers and peft: the same bits, and plain words for broken folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.paths import ROOT
from zhsenti.artifact import Manifest, save_artifact
from zhsenti.core.errors import ModelError
from zhsenti.methods import METHODS, get_method
from zhsenti.methods.base import Scorer
from zhsenti.models.adapter_check import open_adapter
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_lora
from zhsenti.models.precision import pick_precision
from zhsenti.models.scoring_model import load_scoring_model
from zhsenti.task import SentimentTask

TEXTS = ["很好", "酒店很差，" * 12, "一般", "房间不错 good"]
LORA = LoraOptions(4, 8, 0.0, "all-linear")


@pytest.fixture(params=["tiny_model", "tiny_qwen3"])
def folder(request):
    return request.getfixturevalue(request.param)


def by_libraries(method, folder, precision, adapter=None):
    network = method.load(folder, precision)
    if adapter is not None:
        network = load_lora(network, open_adapter(adapter), head=method.head)
    return Scorer(method, network).eval()


def scores(method, scorer):
    return scorer(**method.collate([method.encode(text) for text in TEXTS]))["logits"]


@torch.inference_mode()
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_same_bits_as_transformers_and_peft(folder, name, dtype, tmp_path):
    method, precision = get_method(name)(SentimentTask(), Tokenizer(folder)), pick_precision(dtype)
    trained = method.build(folder, precision, lora=LORA)
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.1)
    save_artifact(tmp_path / "a", trained.network, Manifest(name, SentimentTask(), {}))
    quick = method.build(folder, precision, adapter=open_adapter(tmp_path / "a"))
    assert type(quick.network).__name__ == "ScoringModel"
    assert scores(method, quick).equal(scores(method, by_libraries(method, folder, precision, tmp_path / "a")))
    if name == "label_scoring":
        with quick.network.disable_adapter():
            bare = scores(method, quick)
        assert bare.equal(scores(method, by_libraries(method, folder, precision)))
        assert not bare.equal(scores(method, quick))


@torch.inference_mode()
def test_shards_untied_heads_and_old_configurations(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "m")
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["model.embed_tokens.weight"])
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, model / part, metadata={"format": "pt"})
    weight_map = {name: part for part, held in parts.items() for name in held}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = json.loads((model / "config.json").read_text())
    config |= {"tie_word_embeddings": False, "rope_theta": 5000.0, "rope_scaling": None}
    for key in ("rope_parameters", "layer_types", "head_dim"):
        config.pop(key, None)
    (model / "config.json").write_text(json.dumps(config))
    method, precision = get_method("label_scoring")(SentimentTask(), Tokenizer(model)), pick_precision("fp32")
    quick = method.build(model, precision)
    assert type(quick.network).__name__ == "ScoringModel"
    assert scores(method, quick).equal(scores(method, by_libraries(method, model, precision)))


@pytest.mark.parametrize(
    "change",
    [{"use_sliding_window": True}, {"hidden_act": "gelu"}, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}],
)
def test_other_kinds_are_left_to_transformers(tiny_model, tmp_path, change):
    model = shutil.copytree(tiny_model, tmp_path / "m")
    config = json.loads((model / "config.json").read_text()) | change
    (model / "config.json").write_text(json.dumps(config))
    assert load_scoring_model(model, pick_precision("fp32")) is None


def test_missing_or_misshapen_tensors_are_named(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "m")
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name][:-1].clone()}, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1\.mlp\.up_proj"):
        load_scoring_model(model, pick_precision("fp32"))
    tensors.pop(name)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="没有这个张量"):
        load_scoring_model(model, pick_precision("fp32"))
    (model / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(ModelError, match="读不了"):
        load_scoring_model(model, pick_precision("fp32"))


def test_a_prediction_imports_neither_transformers_nor_peft(tiny_model):
    code = (
        "import sys; from zhsenti import SentimentPredictor\n"
        f"SentimentPredictor.from_base({str(tiny_model)!r}).predict('很好')\n"
        "heavy = {'transformers', 'peft', 'accelerate', 'pandas', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
