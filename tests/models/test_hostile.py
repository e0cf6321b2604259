"""Folders from strangers: refused with the reason at the doors that commands use, before anything in them is used."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import pickle
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from zhsenti import SentimentPredictor
from zhsenti.artifact import MANIFEST, Manifest, open_artifact, save_artifact, seal
from zhsenti.core.errors import ArtifactError, ModelError, exit_on_error
from zhsenti.methods import METHODS, get_method
from zhsenti.methods.prompt import PromptEncoder
from zhsenti.models.adapter_check import CONFIG, WEIGHTS, open_adapter
from zhsenti.models.backbone import LoraOptions, Tokenizer, load_lora
from zhsenti.models.precision import pick_precision
from zhsenti.models.sources import fingerprint, resolve_model
from zhsenti.models.untrusted import MAX_BYTES, read_header, read_json
from zhsenti.prediction import command
from zhsenti.task import SentimentTask

QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
LORA = LoraOptions(4, 8, 0.0, "q_proj,down_proj")


class Payload:
    """What unpickling would do: make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return builtins.open, (str(self.trace), "w")


def save_adapter(name: str, tiny_model: Path, folder: Path) -> Path:
    method, precision = get_method(name)(SentimentTask(), Tokenizer(tiny_model)), pick_precision("fp32")
    base = {"model_id": str(tiny_model), "revision": fingerprint(tiny_model), "precision": "fp32"}
    save_artifact(folder, method.build(tiny_model, precision, lora=LORA).network, Manifest(name, SentimentTask(), base))
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    return {name: save_adapter(name, tiny_model, tmp_path_factory.mktemp(name) / "lora_adapter") for name in METHODS}


@pytest.fixture
def adapter(adapters, tmp_path):
    return shutil.copytree(adapters["label_scoring"], tmp_path / "lora_adapter")


@pytest.fixture
def base(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "base")


def reseal(folder: Path, **changes) -> None:
    """As an attacker would: whatever the folder holds now, its manifest names with the right hash."""
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    seal(folder, MANIFEST, {key: value for key, value in {**values, **changes}.items() if key != "files"})


def configure(folder: Path, name: str = CONFIG, **changes) -> None:
    values = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(values | changes), encoding="utf-8")


def reweigh(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def refused(folder: Path, capsys) -> str:
    """What a user sees: ``scripts/inference.py`` ends with one message and exit code 2."""
    assert exit_on_error(command.main, ["--model_path", str(folder), "--text", "好"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("错误：")
    assert "怎么办" in said
    assert "Traceback" not in said
    return said


def test_what_is_not_hostile_passes(adapters, base, capsys):
    for folder in adapters.values():
        assert exit_on_error(command.main, ["--model_path", str(folder), "--text", "好"]) == 0
    (base / "pytorch_model.bin").write_bytes(pickle.dumps({}))  # hub repositories hold both
    assert resolve_model(str(base)).path == base


# ── adapter: files ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", ["adapter_model.bin", "x.PT", "a.pkl", "a.ckpt", "a.npy", ".hidden.pth", "a.joblib"])
def test_a_pickle_is_refused_and_not_run(adapter, tmp_path, capsys, name, sealed):
    (adapter / name).write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    if sealed:
        reseal(adapter)
    said = refused(adapter, capsys)
    assert name in said
    assert "pickle" in said
    assert not (tmp_path / "trace").exists()


def test_a_pickle_in_the_place_of_weights_is_not_run(adapter, base, tmp_path, capsys):
    for path in (adapter / WEIGHTS, base / "model.safetensors"):
        path.write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
        torch.save(Payload(tmp_path / "trace"), path)
    reseal(adapter)
    assert "文件头" in refused(adapter, capsys)
    with pytest.raises(ModelError, match="文件头"):
        resolve_model(str(base))
    assert not (tmp_path / "trace").exists()


def test_files_that_the_manifest_does_not_name_are_refused_and_cards_are_not(adapter, capsys):
    (adapter / "README.md").write_text("说明", encoding="utf-8")
    (adapter / ".gitattributes").write_text("", encoding="utf-8")
    open_artifact(adapter)
    for name in ("adapter_model.safetensors.index.json", "modeling_x.py"):
        (adapter / name).write_text('{"weight_map": {"a": "../other.safetensors"}}')
        assert name in refused(adapter, capsys)
        (adapter / name).unlink()
    (adapter / "sub").mkdir()
    assert "sub" in refused(adapter, capsys)


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST, CONFIG, "README.md"])
def test_links_out_of_the_folder_are_refused(adapter, tmp_path, capsys, name):
    outside = tmp_path / "outside"
    outside.write_bytes((adapter / name).read_bytes() if (adapter / name).exists() else b"secret")
    (adapter / name).unlink(missing_ok=True)
    (adapter / name).symlink_to(outside)
    said = refused(adapter, capsys)
    assert name in said
    assert "链接" in said


def test_a_folder_reached_through_a_link_is_fine(adapter, tmp_path):
    (tmp_path / "latest").symlink_to(adapter)
    open_artifact(tmp_path / "latest")


def test_pipes_are_not_waited_for(adapter, capsys):
    (adapter / CONFIG).unlink()
    os.mkfifo(adapter / CONFIG)
    assert CONFIG in refused(adapter, capsys)
    with pytest.raises(ValueError, match="不是普通文件"):
        read_json(adapter / CONFIG)


# ── adapter: manifest ─────────────────────────────────────────────────────────────────────────────────────────────

DIGEST = "0" * 64
MANIFESTS = {
    "not an object": ("[]", "不是 JSON 对象"),
    "nothing": ("", "不是合法的 JSON"),
    "deep": ("[" * 100_000, "嵌套太深"),
    "a key twice": ('{"method": "a", "method": "b"}', "键重复：'method'"),
    "a nested key twice": ('{"base": {"model_id": "a", "model_id": "b"}}', "键重复：'model_id'"),
    "huge": (" " * (MAX_BYTES + 1), "太大"),
    "not text": (b"\xff\xfe\x00", "不是 UTF-8"),
    "a huge number": ('{"format": ' + "9" * 5000 + "}", "不能用的数"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(adapter, capsys, name):
    content, reason = MANIFESTS[name]
    (adapter / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refused(adapter, capsys)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": ["label_scoring"]}, "method"),
        ({"task": None}, "task"),
        ({"task": {"labels": "正负"}}, "task.labels"),
        ({"task": {"labels": [["a"], "b"]}}, "文字的列表"),
        ({"task": {"labels": [f"l{i}" for i in range(100_000)]}}, "最多 1000 个"),
        ({"task": {"template": "{text}" + "长" * 1_000_000}}, "template 最多"),
        ({"task": {"max_length": "256"}}, "task.max_length"),
        ({"task": {"head_share": "x"}}, "task.head_share"),
        ({"task": {"aliases": {"正面": "好"}}}, "文字的列表"),
        ({"task": {"run": "x"}}, "不认识的键"),
        ({"base": {}}, "缺 base.model_id"),
        ({"base": {"model_id": "a/b"}}, "缺 base.revision"),
        ({"base": {"model_id": "\x1b[2Ja/b", "revision": "r"}}, "不是名字"),
        ({"base": {"model_id": "a/b", "revision": "r", "precision": "fp8"}}, "base.precision"),
        ({"base": {"model_id": "a/b", "revision": "r", "use_qlora": "no"}}, "base.use_qlora"),
        ({"data": {"seed": "1"}}, "data.seed"),
        ({"data": {"dataset": ["a"]}}, "data.dataset"),
        ({"training": {"settings": {"max_train_samples": {}}}}, "max_train_samples"),
        ({"calibration": []}, "calibration"),
        ({"calibration": {"temperature": True}}, "calibration.temperature"),
        ({"calibration": {"temperature": float("nan")}}, "calibration.temperature"),
        ({"versions": "x"}, "versions"),
        ({"format": "1"}, "format"),
        ({"format": 99}, "更新版本"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "会运行文件夹里自带的代码"),
    ],
)
def test_values_that_no_command_counts_on_are_refused(adapter, capsys, changes, reason):
    reseal(adapter, **changes)
    assert reason in refused(adapter, capsys)


def test_a_method_that_does_not_exist_is_not_looked_for_elsewhere(adapter, capsys):
    reseal(adapter, method="os.system")
    assert exit_on_error(command.main, ["--model_path", str(adapter), "--text", "好"]) == 2
    assert "没有叫 os.system 的方法" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "a\0b", "a\\b", "C:x", "\x1b[2J", "x" * 300])
def test_names_that_are_paths_are_refused(adapter, capsys, name):
    values = json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))
    values["files"][name] = DIGEST
    (adapter / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    said = refused(adapter, capsys)
    assert "缺失或被改过" in said
    assert "\x1b" not in said
    assert "\0" not in said


@pytest.mark.parametrize("files", [{}, [], {WEIGHTS: None}, {CONFIG: {}}, None])
def test_weights_and_settings_have_to_be_sealed(adapter, capsys, files):
    values = json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))
    (adapter / MANIFEST).write_text(json.dumps(values | {"files": files}), encoding="utf-8")
    assert refused(adapter, capsys)


# ── adapter: settings ─────────────────────────────────────────────────────────────────────────────────────────────


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


# ── adapter: weights ──────────────────────────────────────────────────────────────────────────────────────────────


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


HEAD = "base_model.model.score.weight"


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


def test_the_base_that_a_stranger_names_is_shown_and_only_its_safetensors_are_read(adapter, base, tmp_path, capsys):
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    (base / "modeling_x.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    reseal(adapter, base={"model_id": str(base), "revision": "r"})
    said = refused(adapter, capsys)
    assert str(base) in said
    reseal(adapter, base={"model_id": "../../somewhere; rm -rf", "revision": "r"})
    assert "../../somewhere; rm -rf" in refused(adapter, capsys)
    assert not (tmp_path / "trace").exists()


# ── base folders ──────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── text is data ──────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── safetensors headers ───────────────────────────────────────────────────────────────────────────────────────────

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file_of(header, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(**changes):
    return {"a": ONE | changes}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
HEADERS = {
    "empty": (b"", "一共才 0 字节"),
    "seven bytes": (b"\1" * 7, "一共才 7 字节"),
    "longer than the file": (file_of(one(), b"1234", length=1 << 62), "文件头说自己有"),
    "a giant header": (file_of(b"{" + b" " * MAX_BYTES + b"}"), "文件头太大"),
    "not JSON": (file_of(b"{'a': 1}"), "不是合法的 JSON"),
    "not an object": (file_of(b"[1]"), "不是 JSON 对象"),
    "deep": (file_of(b'{"a":' * 100_000), "嵌套太深"),
    "a name twice": (file_of(TWICE, b"1234"), "键重复：'a'"),
    "a key twice": (file_of(TWICE.split(b',"a"')[0].replace(b'"dtype"', b'"dtype":"F32","dtype"') + b"}", b"1234"),
                    "键重复：'dtype'"),
    "unknown dtype": (file_of(one(dtype="F31"), b"1234"), "类型不认识"),
    "dtype of another kind": (file_of(one(dtype=["F32"]), b"1234"), "类型不认识"),
    "negative size": (file_of(one(shape=[-1]), b"1234"), "不能用的数"),
    "negative offset": (file_of(one(data_offsets=[-4, 0]), b"1234"), "不能用的数"),
    "minus zero": (file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', b"1234"), "不能用的数"),
    "a fraction": (file_of(one(shape=[1.0]), b"1234"), "不能用的数"),
    "NaN": (file_of(one(shape=[float("nan")]), b"1234"), "不能用的数"),
    "true": (file_of(one(shape=[True]), b"1234"), "形状不对"),
    "huge size": (file_of(one(shape=[2**60, 2**60]), b"1234"), "形状不对"),
    "empty tensor": (file_of(one(shape=[0, 2**62], data_offsets=[0, 0])), "形状不对"),
    "many dimensions": (file_of(one(shape=[1] * 99), b"1234"), "形状不对"),
    "no shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"1234"), "的说明不是"),
    "more keys": (file_of(one(code="x"), b"1234"), "的说明不是"),
    "past the end": (file_of(one(data_offsets=[4, 8]), b"1234"), "位置不对"),
    "three offsets": (file_of(one(data_offsets=[0, 4, 8]), b"1234"), "位置不对"),
    "backwards": (file_of(one(data_offsets=[4, 0]), b"1234"), "位置不对"),
    "shape and bytes": (file_of(one(shape=[2]), b"1234"), "形状要 8 字节"),
    "overlap": (file_of({"a": ONE, "b": ONE}, b"1234"), "重叠"),
    "hole": (file_of({"a": ONE, "b": ONE | {"data_offsets": [8, 12]}}, bytes(12)), "空洞"),
    "bytes after the last": (file_of(one(), b"12345"), "还有 1 个字节"),
    "a name of control signs": (file_of({"\x1b[2J": ONE}, b"1234"), "张量名不对"),
    "half a character": (file_of(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"), "张量名"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}, "a": ONE}, b"1234"), "__metadata__"),
    "metadata of halves": (file_of(b'{"__metadata__":{"a":"\\udc00"}}'), "__metadata__"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "不是 UTF-8"),
    "thousands of tensors": (file_of({f"{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
                                      for i in range(20_001)}, bytes(20_001)), "张量太多"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_refused_at_every_door(adapter, base, capsys, name):
    content, reason = HEADERS[name]
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        resolve_model(str(base))
    assert reason in str(caught.value)
    (adapter / WEIGHTS).write_bytes(content)
    reseal(adapter)
    assert reason in refused(adapter, capsys)


def test_headers_are_read_in_milliseconds_whatever_the_file_holds(base, tmp_path):
    assert {name: info.shape for name, info in read_header(base / "model.safetensors").items()} == {
        name: tuple(tensor.shape) for name, tensor in load_file(base / "model.safetensors").items()
    }
    large = tmp_path / "large.safetensors"
    with large.open("wb") as stream:
        stream.write(file_of({"a": {"dtype": "F32", "shape": [1 << 28], "data_offsets": [0, 1 << 30]}}))
        stream.truncate(stream.tell() + (1 << 30))  # a gigabyte of nothing
    tracemalloc.start()
    read_header(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


VALID = save({"a": torch.zeros(2, 3), "b.c": torch.ones(4, dtype=torch.bfloat16)}, metadata={"format": "pt"})
LENGTH = int.from_bytes(VALID[:8], "little")


@st.composite
def mutated(draw) -> bytes:
    """A valid file with some bytes of its header (mostly) changed, put in, or taken out."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(8 + LENGTH, len(content) - 1)))
        kept = draw(st.integers(0, 3))
        content[at : at + kept] = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"0", b",", b"[", b"\\ud800"]))
        if not content:
            return b""
    fitting = LENGTH + len(content) - len(VALID)
    if draw(st.booleans()) and fitting > 0:  # a length that fits again, so that what follows is looked at
        content[:8] = struct.pack("<Q", fitting)
    return bytes(content)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


def header_or_fault(path: Path) -> tuple[dict | None, str]:
    try:
        return read_header(path), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.fuzz
@settings(deadline=None)
@given(content=st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: file_of(b"{" + b + b"}")) | mutated())
@example(VALID)
@example(file_of({}))
def test_any_bytes_are_refused_in_words_or_load(scratch, content):
    scratch.write_bytes(content)
    tracemalloc.start()
    infos, fault = header_or_fault(scratch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    if infos is None:
        assert any("\u4e00" <= character <= "\u9fff" for character in fault), fault
        return
    with safe_open(scratch, "pt") as opened:  # raises where safetensors would not load it
        assert set(opened.keys()) == infos.keys()
        for name, info in infos.items():
            assert tuple(opened.get_tensor(name).shape) == info.shape


@pytest.mark.fuzz
@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=8,
    ),
    st.sampled_from(["method", "task", "base", "data", "training", "calibration", "versions", "files", "format"]),
    st.sampled_from(["", "labels", "words", "template", "aliases", "max_length", "head_share", "model_id", "revision",
                     "precision", "temperature", "seed", "settings"]),
)  # fmt: skip
def test_any_value_in_a_manifest_is_fine_or_one_error(adapters, scratch, value, section, key):
    folder = scratch.parent / "adapter"
    if not folder.exists():
        shutil.copytree(adapters["label_scoring"], folder)
    values = json.loads((adapters["label_scoring"] / MANIFEST).read_text(encoding="utf-8"))
    if key and isinstance(values[section], dict):
        values[section][key] = value
    else:
        values[section] = value
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    with contextlib.suppress(ArtifactError):
        assert np.isfinite(open_artifact(folder).manifest.temperature)
