"""A merged folder is transformers' own: read here without a line of zhsenti."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.export.exporting import description, reference, run
from tests.tiny_models import make_adapter
from zhsenti.export.network import pad, save_tokenizer
from zhsenti.methods import get_method
from zhsenti.models.backbone import Tokenizer


def prompts(values, texts):
    return [values["task"]["template"].replace("{text}", text) for text in texts]


@pytest.fixture
def short(texts):
    """Reviews that are neither cut nor hold a control token: sent as text, they are what zhsenti reads."""
    return [text for text in texts if len(text) < 100 and "<|" not in text]


def test_label_words_by_a_plain_causal_model(exported, adapter, short):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = exported("label_scoring", "merged").folder
    values = description(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts(values, short), return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = model(**batch).logits[:, -1]
    words = [ids[0] for ids in values["task"]["word_ids"]]
    found = logits[:, words].log_softmax(-1).numpy()
    np.testing.assert_allclose(found, reference(adapter, short), atol=1e-3)
    assert tokenizer.decode(words[1]) == "正面"


def test_several_texts_through_a_plain_pipeline(exported, adapters, short):
    from transformers import pipeline

    folder = exported("classifier_head", "merged").folder
    classify = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    results = classify(prompts(description(folder), short), batch_size=8)
    found = [[{one["label"]: one["score"] for one in row}[label] for label in ("负面", "正面")] for row in results]
    np.testing.assert_allclose(found, np.exp(reference(adapters["classifier_head"], short)), atol=1e-3)


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_the_merge_is_made_on_the_cpu_whatever_the_machine_s_device_is(method, adapters, tiny_model, monkeypatch):
    import peft.utils.save_and_load
    import torch

    from zhsenti.artifact import open_artifact
    from zhsenti.export.network import merge
    from zhsenti.models import backbone, scoring_model

    # A device that holds no numbers: what went through it could not come back.
    for module in (backbone, scoring_model):
        monkeypatch.setattr(module, "pick_device", lambda: torch.device("meta"))
    for module in (peft.peft_model, peft.utils.save_and_load):
        monkeypatch.setattr(module, "infer_device", lambda: "meta")
    artifact = open_artifact(adapters[method])
    made = get_method(method)(artifact.manifest.task, Tokenizer(tiny_model))
    network = merge(made, tiny_model, artifact.adapter)
    assert {(p.device.type, p.dtype) for p in network.parameters()} == {("cpu", torch.float32)}


@pytest.mark.parametrize("pad_token", ["<|endoftext|>", None])
def test_a_base_that_names_no_padding(pad_token, tiny_model, reviews, short, tmp_path):
    """Qwen2.5-Instruct in small: config.json has no pad_token_id, and the tokenizer pads with another token than eos.
    A classifier that took one for the other would read the padding instead of a prompt's end.
    """
    from transformers import pipeline

    base = shutil.copytree(tiny_model, tmp_path / "base")
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        values = json.loads((base / name).read_text(encoding="utf-8"))
        values[key] = pad_token if key == "pad_token" else None
        (base / name).write_text(json.dumps(values), encoding="utf-8")
    adapter = make_adapter(tmp_path / "a", base, "classifier_head")
    assert run(model_path=adapter, dataset=reviews, output=tmp_path / "out").rc == 0
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu", top_k=None)
    texts = ["好", *short[:7]]
    results = classify(prompts(description(tmp_path / "out"), texts), batch_size=8)
    found = [{one["label"]: one["score"] for one in row}["正面"] for row in results]
    np.testing.assert_allclose(found, np.exp(reference(adapter, texts))[:, 1], atol=1e-3)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_sixteen_bit_weights(method, dtype, adapters, reviews, tmp_path):
    from safetensors.torch import load_file

    done = run(model_path=adapters[method], dtype=dtype, dataset=reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    parity = description(tmp_path / "out")["parity"]
    assert parity["agreement"] == 1.0
    assert 0 < parity["max_probability_difference"] < 0.15
    kinds = {str(tensor.dtype) for tensor in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert kinds == {{"bf16": "torch.bfloat16", "fp16": "torch.float16"}[dtype]}


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_the_folder_needs_nobodys_code_and_remembers_the_labels(method, exported, tiny_model):
    folder = exported(method, "merged").folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert not {"auto_map", "quantization_config"} & set(config)
    assert not {"adapter_config.json", "adapter_model.safetensors"} & {path.name for path in folder.iterdir()}
    assert config["use_cache"] is json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))["use_cache"]
    if method == "classifier_head":
        assert (config["id2label"], config["label2id"]) == ({"0": "负面", "1": "正面"}, {"负面": 0, "正面": 1})
        assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    else:
        assert config["architectures"] == ["Qwen2ForCausalLM"]
        assert config["tie_word_embeddings"] is True


def test_a_sibling_of_the_family(tiny_qwen3, reviews, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_qwen3, "label_scoring")
    assert run(model_path=adapter, dataset=reviews, output=tmp_path / "out").rc == 0
    assert description(tmp_path / "out")["parity"]["max_probability_difference"] < 1e-3


def test_the_tokenizer_reads_as_zhsenti_does(tiny_model, tmp_path):
    """NFC, which the base's file does not have, is in the export's; what the base knows stays."""
    from transformers import AutoTokenizer

    save_tokenizer(tiny_model, tmp_path)
    ours, plain = Tokenizer(tiny_model), AutoTokenizer.from_pretrained(tmp_path)
    for text in ("正面", "cafe\u0301 很好", "caf\u00e9 很好", "ガ", "中性 <|im_end|>", "  两个空格\n"):
        assert plain(text)["input_ids"] == ours.encode(text), text
    assert plain.pad_token == "<|endoftext|>"


def test_rows_are_padded_on_the_right_under_a_mask():
    ids, mask = pad([[5], [6, 7, 8]], 9)
    assert (ids.tolist(), mask.tolist()) == ([[5, 9, 9], [6, 7, 8]], [[1, 0, 0], [1, 1, 1]])
    assert ids.dtype == mask.dtype == np.int64
