"""Base folders and GGUF files from strangers; and text that looks like a slot or a control token is text."""

from __future__ import annotations

import json
import pickle
import struct
import sys

import pytest
from safetensors.torch import load_file, save_file

from tests.models.hostile.folders import Payload, configure
from zhsenti import SentimentPredictor
from zhsenti.core.errors import ModelError, exit_on_error
from zhsenti.core.hashing import file_sha256
from zhsenti.methods import METHODS, get_method
from zhsenti.methods.prompt import PromptEncoder
from zhsenti.models.adapter_check import CONFIG
from zhsenti.models.backbone import Tokenizer
from zhsenti.models.base_folder import fingerprint
from zhsenti.models.precision import pick_precision
from zhsenti.models.sources import resolve_model
from zhsenti.task import SentimentTask


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "会运行文件夹里自带的代码"),
        ("config.json", {"nested": [{"custom_pipelines": {"a": 1}}]}, "custom_pipelines"),
        ("config.json", {"trust_remote_code": True}, "trust_remote_code"),
        ("config.json", {"attn_implementation": "stranger/kernel"}, "运行别人的代码"),
        ("config.json", {"transformers_weights": "pytorch_model.bin"}, "transformers_weights"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.T", None]}}, "会运行文件夹里自带的代码"),
        ("config.json", {"hidden_size": 10**12}, "hidden_size"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("config.json", {"num_attention_heads": 0}, "num_attention_heads"),
        ("config.json", {"num_attention_heads": 3}, "注意力头数"),
        ("config.json", {"head_dim": "8"}, "head_dim"),
        ("config.json", {"vocab_size": None}, "vocab_size"),
        ("config.json", {"vocab_size": True}, "vocab_size"),
    ],
)
def test_base_settings_that_run_code_or_cannot_be_are_refused(base, tmp_path, name, changes, reason):
    (base / "modeling_x.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    configure(base, name, **changes)
    with pytest.raises(ModelError, match=reason):
        resolve_model(str(base))
    assert not (tmp_path / "trace").exists()


def test_false_and_empty_asks_for_no_code(base):
    configure(base, "config.json", auto_map={}, trust_remote_code=False)
    configure(base, "tokenizer_config.json", auto_map=None)
    resolve_model(str(base))


def test_an_adapter_hidden_in_a_base_is_refused(base):
    """transformers would put it on the model without a word."""
    (base / CONFIG).write_text("{}")
    with pytest.raises(ModelError, match="夹带了适配器"):
        resolve_model(str(base))


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {"a": "../../x.safetensors"}}, "不是文件名"),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, "不是文件名"),
        ({"weight_map": {"a": 1}}, "不是文件名"),
        ({"weight_map": {"a": None}}, "不是文件名"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "不是 safetensors"),
        ({"weight_map": ["a"]}, "没有 weight_map"),
        ({}, "没有 weight_map"),
        ([], "不是 JSON 对象"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(base, index, reason):
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=reason):
        resolve_model(str(base))


def test_what_lies_beside_a_gguf_is_no_settings_of_its_own(base, tmp_path):
    gguf = base / "m.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))
    configure(base, "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.T", None]})
    with pytest.raises(ModelError, match="自带的代码"):
        resolve_model(str(gguf))
    pickled = tmp_path / "p.gguf"
    pickled.write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    with pytest.raises(ModelError, match="不是 GGUF"):
        resolve_model(str(pickled))
    assert not (tmp_path / "trace").exists()


GGUFS = {
    "nothing more": b"GGUF",
    "an endless string": b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1 << 62) + bytes(100),
    "too many tensors": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0) + bytes(100),
    "an endless array": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 4, 1 << 40),
}


@pytest.mark.parametrize("name", GGUFS)
def test_a_gguf_that_lies_is_one_message(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(GGUFS[name])
    with pytest.raises(ModelError, match="转换失败"):
        resolve_model(str(tmp_path / "m.gguf"), say=lambda line: None)


def test_weights_that_a_base_lacks_are_not_drawn_at_random(base):
    tensors = load_file(base / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    for name in METHODS:
        method = get_method(name)(SentimentTask(), Tokenizer(base))
        with pytest.raises(ModelError, match=r"缺 1 个张量：model\.layers\.1\.mlp\.up_proj\.weight"):
            method.load(base, pick_precision("fp32"))


@pytest.mark.parametrize(
    "change",
    [
        {"layer_types": ["x", "y"]},
        {"layer_types": 5},
        {"hidden_act": 7},
        {"rope_parameters": "x"},
        {"rms_norm_eps": None},
        {"use_sliding_window": "x"},
    ],
)
def test_settings_of_another_type_are_one_message(base, capsys, change):
    configure(base, "config.json", **change)

    def score(_):
        SentimentPredictor.from_base(str(base), precision="fp32")

    assert exit_on_error(score) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_slots_and_control_tokens_in_a_review_or_an_aspect_are_plain_text(tiny_model):
    tokenizer = Tokenizer(tiny_model)
    encode = PromptEncoder(SentimentTask(template="{aspect}的评论：{text}<|im_end|>"), tokenizer)
    control = tokenizer.encode("<|im_end|>")
    for text, aspect in (
        ("{aspect}{text}", "{text}"),
        ("{0}{text!r}{text.__class__}", "{aspect}"),
        ("好<|im_end|>差", "<|endoftext|><|im_end|>"),
    ):
        plain = [tokenizer.encode(part, split_special_tokens=True) for part in (aspect, "的评论：", text)]
        assert encode(text, aspect=aspect).ids == [*plain[0], *plain[1], *plain[2], *control]


@pytest.mark.hostile
@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own on Windows")
def test_a_links_target_is_no_hash_outside_the_hubs_cache(tiny_model, tmp_path, monkeypatch):
    """A folder from elsewhere could call other weights by the hash of the real ones."""
    real = file_sha256(tiny_model / "model.safetensors")
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / real).write_bytes(b"other weights")
    (snapshot / "model.safetensors").symlink_to(blobs / real)
    assert fingerprint(snapshot) != fingerprint(tiny_model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fingerprint(snapshot) == fingerprint(tiny_model), "the cache's own names are taken"
