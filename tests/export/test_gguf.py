"""The GGUF file: what stands in it, and both ways to read it back."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.export.exporting import contents, description, method_of, reference, run
from tests.tiny_models import make_adapter
from zhsenti.artifact import open_artifact
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.export.gguf import GGUF, modelfile
from zhsenti.export.network import merge
from zhsenti.models.sources import resolve_model
from zhsenti.task import SentimentTask


@pytest.fixture
def reader(exported):
    from gguf import GGUFReader

    return GGUFReader(exported("label_scoring", "gguf").folder / "model.gguf")


def test_the_shape_is_the_bases(reader, tiny_model):
    config = json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))
    found = {name: field.contents() for name, field in reader.fields.items()}
    assert found["general.architecture"] == "qwen2"
    for name, key in {
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
    }.items():
        assert found[f"qwen2.{name}"] == config[key], name
    assert found["qwen2.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
    assert found["qwen2.rope.freq_base"] == config["rope_parameters"]["rope_theta"]


def test_the_tied_head_is_stored_once(reader):
    names = {tensor.name for tensor in reader.tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names
    assert not [name for name in names if "lora" in name]


def test_the_tokenizer_in_the_file_reads_as_zhsenti_does(reader, exported, adapter):
    from transformers import AutoTokenizer

    method = method_of(adapter)
    plain = AutoTokenizer.from_pretrained(exported("label_scoring", "gguf").folder, gguf_file="model.gguf")
    for text in ("正面", "中性，cafe 很好！", "情感倾向：", "😀"):
        assert plain.encode(text, add_special_tokens=False) == method.tokenizer.encode(text), text
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert reader.fields["tokenizer.ggml.pre"].contents() == "qwen2"
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is False
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert [tokens[i] for i, kind in enumerate(types) if kind == 3] == ["<|im_end|>", "<|endoftext|>"]  # CONTROL
    (embedding,) = (tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    assert len(tokens) == len(types) == embedding.shape[1]


@pytest.mark.parametrize(("dtype", "stored"), [("fp16", "F16"), ("bf16", "BF16"), ("q8_0", "Q8_0")])
def test_matrices_are_stored_as_asked_and_norms_in_full(dtype, stored, adapter, reviews, tmp_path):
    from gguf import GGUFReader

    done = run(model_path=adapter, format="gguf", dtype=dtype, dataset=reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert (values["dtype"], values["parity"]["agreement"]) == (dtype, 1.0)
    assert 0 < values["parity"]["max_probability_difference"] < 0.15
    kinds = {
        (tensor.tensor_type.name, len(tensor.shape)) for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors
    }
    assert kinds == {(stored, 2), ("F32", 1)}


def test_ids_without_a_token_are_marked_unused(tiny_model, tiny_tokenizer, reviews, tmp_path):
    """Qwen2.5's embedding has 271 rows more than its tokenizer has tokens."""
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    base = shutil.copytree(tiny_model, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.resize_token_embeddings(len(tiny_tokenizer) + 3)
    model.save_pretrained(base)
    adapter = make_adapter(tmp_path / "a", base, "label_scoring")
    assert run(model_path=adapter, format="gguf", dtype="fp32", dataset=reviews, output=tmp_path / "out").rc == 0
    assert description(tmp_path / "out")["parity"]["agreement"] == 1.0
    fields = GGUFReader(tmp_path / "out" / "model.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents()[-3:] == [f"[PAD{len(tiny_tokenizer) + i}]" for i in range(3)]
    assert fields["tokenizer.ggml.token_type"].contents()[-4:] == [3, 5, 5, 5]


def test_an_untied_head_is_stored(tiny_model, reviews, tmp_path):
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    base = shutil.copytree(tiny_model, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
    model.save_pretrained(base)
    adapter = make_adapter(tmp_path / "a", base, "label_scoring")
    assert run(model_path=adapter, format="gguf", dtype="fp32", dataset=reviews, output=tmp_path / "out").rc == 0
    assert description(tmp_path / "out")["parity"]["max_probability_difference"] < 1e-3
    assert "output.weight" in {tensor.name for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors}


@pytest.mark.parametrize(
    ("kind", "rope", "tokenizer"),
    [("llama", "default", "BPE"), ("qwen2", "yarn", "BPE"), ("qwen2", "default", "Unigram")],
)
def test_a_kind_without_a_place_is_refused(kind, rope, tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": tokenizer}}), encoding="utf-8")
    before = contents(tmp_path)
    network = SimpleNamespace(config=SimpleNamespace(model_type=kind, rope_parameters={"rope_type": rope}))
    with pytest.raises(ConfigError, match=rf"{kind}，rope {rope}，分词器 {tokenizer}[\s\S]*--format merged"):
        GGUF.write(None, network, tmp_path, "fp16")
    assert contents(tmp_path) == before


# Ollama's recipe ------------------------------------------------------------------------------------------------------


def test_the_modelfile_holds_the_prompt_and_stops_after_the_word(exported):
    written = (exported("label_scoring", "gguf").folder / "Modelfile").read_text(encoding="utf-8")
    assert written == modelfile(SentimentTask(), [[1], [2]])
    assert 'FROM ./model.gguf\nTEMPLATE """评论：{{ .Prompt }}\n情感倾向："""\n' in written
    for line in ("PARAMETER temperature 0", "PARAMETER num_predict 1", "PARAMETER num_ctx 512"):
        assert line in written.splitlines()


@pytest.mark.parametrize("template", ["{aspect}：{text}", "{{ {text}", 'x """ {text}'])
def test_a_template_that_ollama_cannot_hold_is_left_to_the_caller(template):
    written = modelfile(SentimentTask(template=template, max_length=400), [[1], [2, 3]])
    assert 'TEMPLATE """{{ .Prompt }}"""' in written
    assert "整段作为提示" in written
    assert "PARAMETER num_predict 2" in written.splitlines()
    assert "PARAMETER num_ctx 800" in written.splitlines()


# llama.cpp, where it is installed -------------------------------------------------------------------------------------


def fake_llama_cpp(network):
    """llama-cpp-python's low-level names over a transformers network: logits of the last token of what was read."""
    import torch

    class Llama:
        def __init__(self, path, n_ctx, n_batch, n_ubatch, verbose):
            assert path.endswith("model.gguf")
            assert n_batch == n_ubatch == n_ctx
            self._ctx, self.ids, self.limit = SimpleNamespace(ctx=self), [], n_ctx

        def n_vocab(self):
            return network.config.vocab_size

        def reset(self):
            self.ids = []

        def eval(self, ids):
            self.ids = [*self.ids, *ids]
            assert len(self.ids) <= self.limit

    def last(context, index):
        assert index == -1
        with torch.inference_mode():
            logits = network(torch.tensor([context.ids])).logits[0, -1].float().numpy().copy()
        context.kept = logits
        return logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    module = ModuleType("llama_cpp")
    module.Llama, module.llama_get_logits_ith, module.__version__ = Llama, last, "0.0"
    module.__spec__ = SimpleNamespace(name="llama_cpp")
    return module


@pytest.mark.parametrize("labels", [("负面", "正面"), ("负面", "中性", "正面")])
def test_llama_cpp_is_asked_word_by_word(labels, tiny_model, monkeypatch, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring", SentimentTask(labels=labels))
    method = method_of(adapter)
    network = merge(method, tiny_model, open_artifact(adapter).adapter)
    monkeypatch.setitem(sys.modules, "llama_cpp", fake_llama_cpp(network))
    texts = ["很好", "酒店很差，" * 60, "一般 😀"]
    reloaded = GGUF.load(method, tmp_path)
    found = reloaded.score([method.encode(text).ids for text in texts])
    assert reloaded.runtime.startswith("llama.cpp")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(adapter, texts), atol=1e-3)


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"), r"缺 1 个张量.*layers\.1\.mlp\.up"),
        (lambda data: _with_number(data, b"qwen2.block_count", 2**31 - 1), "num_hidden_layers = 2147483647"),
        (lambda data: _with_number(data, b"qwen2.embedding_length", 2**30), "hidden_size = 1073741824"),
        (lambda data: _with_number(data, b"qwen2.attention.head_count", 0), "转换失败"),
    ],
    ids=["a tensor less", "layers", "width", "no heads"],
)
def test_a_base_in_a_gguf_that_lies_is_refused_and_not_kept(exported, tmp_path, monkeypatch, change, reason):
    """A tensor that is not there would be drawn at random, and the model kept in the cache."""
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    data = (exported("label_scoring", "gguf").folder / "model.gguf").read_bytes()
    (tmp_path / "good.gguf").write_bytes(data)
    assert resolve_model(str(tmp_path / "good.gguf"), say=lambda line: None).path.is_dir()
    (tmp_path / "bad.gguf").write_bytes(change(data))
    with pytest.raises(ModelError, match=reason):
        resolve_model(str(tmp_path / "bad.gguf"), say=lambda line: None)
    assert len([path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]) == 1


def _with_number(data: bytes, key: bytes, value: int) -> bytes:
    """``data`` with another unsigned number after ``key`` and its type."""
    place = data.index(key) + len(key) + 4
    return data[:place] + value.to_bytes(4, "little") + data[place + 4 :]
