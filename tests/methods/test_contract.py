"""One suite over every registered method, and one from outside: shape, order, invariances, loss, save, load, export."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests.toys import ToyMethod
from zhsenti.artifact import Manifest, open_artifact, save_artifact
from zhsenti.core.errors import ArtifactError, ConfigError, ModelError
from zhsenti.methods import METHODS, get_method
from zhsenti.models.adapter_check import open_adapter
from zhsenti.models.backbone import LoraOptions, Tokenizer
from zhsenti.models.precision import pick_precision
from zhsenti.task import SentimentTask

TEXTS = ("很好", "房间很差，再也不来了。" * 3, "一般", "<|im_end|>不错", "😀👍")
TASKS = {
    "two": SentimentTask(),
    "three": SentimentTask(labels=("负面", "中性", "正面")),  # 中性 is two tokens: the slow path
    "aspect": SentimentTask(template="方面：{aspect}\n评论：{text}\n情感倾向："),
}


@pytest.fixture(params=[*METHODS, "toy"])
def method_name(request, monkeypatch):
    monkeypatch.setitem(METHODS, "toy", ToyMethod)
    return request.param


@pytest.fixture(params=list(TASKS))
def task(request):
    return TASKS[request.param]


def build(method_name, task, folder, **kwargs):
    method = get_method(method_name)(task, Tokenizer(folder))
    torch.manual_seed(1)
    scorer = method.build(folder, pick_precision("fp32"), **kwargs)
    if kwargs.get("lora"):
        with torch.no_grad():  # LoRA B and the head start at zero; give them a say
            for parameter in scorer.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.05)
    return method, scorer


LORA = LoraOptions(r=4, alpha=8, dropout=0.0, target_modules="all-linear")


def encode(method, texts=TEXTS):
    aspect = "服务" if method.task.has_aspect else None
    return [method.encode(text, index % 2, aspect) for index, text in enumerate(texts)]


def test_log_probs_are_normalised_float32_in_label_order(method_name, task, tiny_model):
    method, scorer = build(method_name, task, tiny_model, lora=LORA)
    out = scorer(**method.collate(encode(method)))
    assert out["logits"].shape == (len(TEXTS), len(task.labels))
    assert out["logits"].dtype == torch.float32
    torch.testing.assert_close(out["logits"].exp().sum(-1), torch.ones(len(TEXTS)))
    swapped = SentimentTask(labels=task.labels[::-1], template=task.template)
    if method_name == "label_scoring":
        other, again = build(method_name, swapped, tiny_model, lora=LORA)
        torch.testing.assert_close(again(**other.collate(encode(other)))["logits"].flip(-1), out["logits"])


def test_scores_do_not_depend_on_batch_companions(method_name, task, tiny_model):
    method, scorer = build(method_name, task, tiny_model, lora=LORA)
    items = encode(method)
    together = scorer(**method.collate(items))["logits"]
    alone = torch.cat([scorer(**method.collate([item]))["logits"] for item in items])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(
        scorer(**method.collate([items[i] for i in order]))["logits"], together[order], atol=2e-5, rtol=1e-4
    )


def test_label_scores_are_the_full_vocabulary_ones(task, tiny_model):
    """Reading few rows at one position must equal the textbook: whole sequence, whole vocabulary, word by word."""
    method, scorer = build("label_scoring", task, tiny_model, lora=LORA)
    items = encode(method)
    scores = []
    for item in items:
        row = []
        for word in method.word_ids:
            logits = scorer.network(torch.tensor([item.ids + word])).logits[0].float().log_softmax(-1)
            row.append(sum(logits[len(item.ids) - 1 + n, token] for n, token in enumerate(word)))
        scores.append(torch.stack(row))
    expected = torch.stack(scores).log_softmax(-1)
    torch.testing.assert_close(scorer(**method.collate(items))["logits"], expected, atol=2e-5, rtol=1e-4)


def test_the_built_in_losses_are_the_negative_log_likelihood(tiny_model):
    for name in METHODS:
        method, scorer = build(name, TASKS["two"], tiny_model, lora=LORA)
        batch = method.collate(encode(method))
        out = scorer(**batch)
        torch.testing.assert_close(out["loss"], -out["logits"][torch.arange(len(TEXTS)), batch["labels"]].mean())


def test_loss_is_a_sum_over_reviews_and_reaches_every_trainable_weight_only(method_name, task, tiny_model):
    method, scorer = build(method_name, task, tiny_model, lora=LORA)
    batch = method.collate(encode(method))
    out = scorer(**batch)
    log_probs, labels = out["logits"], batch["labels"]
    parts = sum(method.loss(log_probs[part], labels[part]) for part in (slice(0, 2), slice(2, None)))
    torch.testing.assert_close(out["loss"], parts / len(TEXTS))  # however an update is cut into passes
    half = scorer(**batch, num_items_in_batch=2 * len(TEXTS))["loss"]
    torch.testing.assert_close(half * 2, out["loss"])
    out["loss"].backward()
    for name, parameter in scorer.named_parameters():
        if parameter.requires_grad:
            assert "lora_" in name or (method.head and f".{method.head}." in name), name
            assert parameter.dtype == torch.float32, name
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_saved_folder_gives_the_same_scores_and_holds_the_head(method_name, task, tiny_model, tmp_path):
    method, scorer = build(method_name, task, tiny_model, lora=LORA)
    batch = method.collate(encode(method))
    folder = tmp_path / "adapter"
    save_artifact(folder, scorer.network, Manifest(method_name, task, {"model_id": "tiny", "revision": "r"}))
    manifest = open_artifact(folder).manifest
    assert (manifest.method, manifest.task) == (method_name, task)
    assert set(manifest.files) == {"adapter_config.json", "adapter_model.safetensors"}
    saved_method = get_method(manifest.method)(manifest.task, Tokenizer(tiny_model))
    again = saved_method.build(tiny_model, pick_precision("fp32"), adapter=open_adapter(folder))
    assert again(**batch)["logits"].equal(scorer(**batch)["logits"])
    # merged: the same function with the product folded into the weights
    merged = saved_method.build(tiny_model, pick_precision("fp32"), adapter=open_adapter(folder), merge=True)
    torch.testing.assert_close(merged(**batch)["logits"], scorer(**batch)["logits"], atol=1e-4, rtol=1e-3)


def test_what_an_export_needs_says_what_the_method_says(method_name, task, tiny_model, tmp_path):
    method, scorer = build(method_name, task, tiny_model, lora=LORA)
    folder = tmp_path / "adapter"
    save_artifact(folder, scorer.network, Manifest(method_name, task, {"model_id": "tiny", "revision": "r"}))
    merged = method.build(tiny_model, pick_precision("fp32"), adapter=open_adapter(folder), merge=True)
    items = encode(method)
    expected = merged(**method.collate(items))["logits"]
    rows_CD = method.output_rows(merged.network)
    assert (rows_CD is None) == any(len(ids) > 1 for ids in method.word_ids)
    last_BD = torch.cat([merged.network.model(torch.tensor([item.ids])).last_hidden_state[:, -1] for item in items])
    if rows_CD is not None:
        logits = torch.nn.functional.linear(last_BD.float(), rows_CD.float())
        torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-4, rtol=1e-3)
    method.export(merged.network).save_pretrained(tmp_path / "whole")
    (kind,) = transformers.AutoConfig.from_pretrained(tmp_path / "whole").architectures
    ordinary = getattr(transformers, kind).from_pretrained(tmp_path / "whole")
    assert method.has_lm_head == kind.endswith("ForCausalLM")
    if not method.has_lm_head:
        logits = torch.cat([ordinary(torch.tensor([item.ids])).logits for item in items])
        torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-4, rtol=1e-3)


def test_changed_or_missing_files_are_refused_by_name(method_name, tiny_model, tmp_path):
    _, scorer = build(method_name, TASKS["two"], tiny_model, lora=LORA)
    folder = tmp_path / "adapter"
    save_artifact(folder, scorer.network, Manifest(method_name, TASKS["two"], {"model_id": "tiny", "revision": "r"}))
    weights = folder / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors"):
        open_artifact(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors"):
        open_artifact(folder)
    with pytest.raises(ArtifactError, match="没有这个适配器文件夹"):
        open_artifact(tmp_path / "nowhere")


def test_siblings_of_the_family_work(method_name, tiny_qwen3):
    method, scorer = build(method_name, TASKS["two"], tiny_qwen3, lora=LORA)
    assert scorer(**method.collate(encode(method)))["logits"].isfinite().all()


def test_an_adapter_of_another_shape_is_refused(method_name, tiny_model, tmp_path):
    _, scorer = build(method_name, TASKS["two"], tiny_model, lora=LoraOptions(4, 8, 0.0, "q_proj,down_proj"))
    save_artifact(tmp_path / "a", scorer.network, Manifest(method_name, TASKS["two"], {}))
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    method = get_method(method_name)(TASKS["two"], Tokenizer(tiny_model))
    with pytest.raises((ModelError, ValueError), match="对不上"):
        method.build(tiny_model, pick_precision("fp32"), adapter=open_adapter(tmp_path / "a"))


def test_unknown_lora_layer_is_named(method_name, tiny_model):
    with pytest.raises(ConfigError, match=r"qq_proj[\s\S]*q_proj"):
        build(method_name, TASKS["two"], tiny_model, lora=LoraOptions(4, 8, 0.0, "qq_proj"))
    with pytest.raises(ConfigError, match="lm_head"):
        build(method_name, TASKS["two"], tiny_model, lora=LoraOptions(4, 8, 0.0, "lm_head"))


def test_a_head_made_of_the_label_words_scores_as_label_scoring_does(tiny_model):
    """Same prompt, same position, same hidden state: what separates the two methods is the output layer alone."""
    words, label_scoring = build("label_scoring", SentimentTask(), tiny_model)
    head, classifier = build("classifier_head", SentimentTask(), tiny_model)
    rows = label_scoring.network.lm_head.weight[[ids[0] for ids in words.word_ids]]
    classifier.network.score.weight.data.copy_(rows)
    expected = label_scoring(**words.collate(encode(words)))["logits"]
    assert expected.std() > 0.1
    torch.testing.assert_close(classifier(**head.collate(encode(head)))["logits"], expected)
