"""``zhsenti export`` as a whole: what is left when it worked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.export.exporting import (
    CASES,
    clear_reviews,
    close,
    description,
    method_of,
    reference,
    run,
    write_reviews,
)
from tests.tiny_models import make_adapter
from zhsenti.artifact import open_artifact, store_calibration
from zhsenti.export.formats import FORMATS
from zhsenti.task import SentimentTask

FILES = {
    "merged": {"config.json", "generation_config.json", "model.safetensors"},
    "gguf": {"model.gguf", "Modelfile"},
    "onnx": {"model.onnx", "model.onnx.data"},
    "openvino": {"openvino_model.xml", "openvino_model.bin"},
}


@pytest.mark.parametrize(("method", "form"), CASES)
def test_an_export_says_what_the_adapter_says(method, form, exported, adapters, texts):
    found, manifest = exported(method, form), open_artifact(adapters[method]).manifest
    values = description(found.folder)
    named = FILES[form] - ({"generation_config.json"} if method == "classifier_head" else set())
    assert set(values["files"]) == named | {"tokenizer.json", "tokenizer_config.json"}
    assert (values["format"], values["dtype"], values["method"]) == (form, "fp32", method)
    assert (values["base"], values["temperature"]) == (manifest.base, 1.0)
    assert values["adapter_sha256"] == manifest.files["adapter_model.safetensors"]
    assert set(FORMATS.load(form).libraries) < set(values["versions"])
    parity = values["parity"]
    assert (parity["n"], parity["agreement"], parity["disagreeing"]) == (60, 1.0, [])
    assert parity["max_probability_difference"] < close(parity["runtime"])
    assert (parity["seed"], parity["adapter_precision"]) == (42, "fp32")
    assert parity["runtime"].split()[0] in found.done.out
    assert set(reference(adapters[method], texts).argmax(axis=1)) == {0, 1}  # one answer for all would show
    assert not list(found.folder.parent.glob(".*"))
    assert "Traceback" not in found.done.err


@pytest.mark.parametrize("form", ["merged", "gguf"])
def test_what_differs_when_prompts_are_sent_as_text_is_said(form, exported):
    """Of 60 rows two are cut, which the caller has to do; a control token, in two, is text to zhsenti alone."""
    found = exported("label_scoring", form)
    whole = description(found.folder)["parity"]["whole_text_prompts"]
    assert (whole["n"], whole["other_tokens"]) == (58, 2)
    assert "58 条（不含要截断的）中 2 条" in found.done.out


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_formats_that_take_ids_do_not_speak_of_text(form, exported):
    assert "whole_text_prompts" not in description(exported("label_scoring", form).folder)["parity"]


@pytest.mark.parametrize(("method", "form"), CASES)
def test_an_export_reads_rows_of_any_length_together(method, form, exported, adapters, texts):
    """Reloaded once more, in one batch and one by one: padding changes nothing."""
    made = method_of(adapters[method])
    reloaded = FORMATS.load(form).load(made, exported(method, form).folder)
    some = [texts[0], texts[-1], texts[1], texts[5]]
    ids = [made.encode(text).ids for text in some]
    assert len(set(map(len, ids))) > 1
    together, alone = reloaded.score(ids), np.concatenate([reloaded.score([one]) for one in ids])
    expected, far = np.exp(reference(adapters[method], some)), close(reloaded.runtime)
    np.testing.assert_allclose(np.exp(together), expected, atol=far)
    np.testing.assert_allclose(np.exp(alone), expected, atol=far)
    assert together.dtype == np.float32


def test_the_summary_says_where_and_how_to_go_on(exported):
    for form in FORMATS:
        found = exported("label_scoring", form)
        for part in (f"已导出到 {found.folder}", "60 条中标签相同的 100.00%", "下一步：", "docs/export.md"):
            assert part in found.done.out, (form, part)
        assert "%|" not in found.done.err, "a library's own progress bar"


def test_the_default_place_is_beside_the_adapter(tiny_model, reviews, tmp_path, monkeypatch):
    adapter = make_adapter(tmp_path / "run" / "lora_adapter", tiny_model, "label_scoring")
    monkeypatch.chdir(adapter)
    assert run(model_path=".", dataset=reviews).rc == 0
    assert description(tmp_path / "run" / "export_merged")["dtype"] == "fp32"  # as it was trained
    open_artifact(adapter)


def test_a_place_without_a_name_is_the_folder_it_stands_for(export, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export(output=".").rc == 0
    assert description(tmp_path / "here")["format"] == "merged"
    monkeypatch.chdir(tmp_path / "here")  # another one than before
    assert export(output="..").refused(f"{tmp_path} 已经存在")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("form", ["merged", "gguf"])
def test_a_review_that_no_file_can_hold(form, export, texts, tmp_path):
    """Half of a character, as JSON can write it: compared like any other, as the text that zhsenti reads for it."""
    lines = [json.dumps({"text": text}) for text in [*texts[:20], "很好\ud800不错"]]
    (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert export(format=form, dataset=tmp_path / "r.jsonl").rc == 0
    assert description(tmp_path / "out")["parity"]["whole_text_prompts"]["n"] == 21


def test_the_temperature_goes_along_and_the_comparison_is_without_it(tiny_model, reviews, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring")
    store_calibration(open_artifact(adapter), {"temperature": 3.0})
    assert run(model_path=adapter, dataset=reviews, output=tmp_path / "out").rc == 0
    values = description(tmp_path / "out")
    assert (values["temperature"], values["parity"]["max_probability_difference"] < 1e-3) == (3.0, True)


# Tasks ----------------------------------------------------------------------------------------------------------------

THREE = SentimentTask(labels=("负面", "中性", "正面"))  # 中性 is two tokens
ASPECT = SentimentTask(template="方面：{aspect}\n评论：{text}\n情感倾向：")


@pytest.mark.parametrize("form", FORMATS)
def test_label_words_of_several_tokens(form, tiny_model, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring", THREE)
    texts = clear_reviews([adapter])
    path = write_reviews(tmp_path / "r.csv", texts)
    done = run(model_path=adapter, format=form, dtype="fp32", dataset=path, output=tmp_path / "out")
    if form in ("onnx", "openvino"):
        assert done.refused("不止一个 token", "负面、中性、正面", "gguf")
        assert {path.name for path in tmp_path.iterdir()} == {"a", "r.csv"}
        return
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert (values["parity"]["agreement"], values["parity"]["max_probability_difference"] < 1e-3) == (1.0, True)
    assert list(map(len, values["task"]["word_ids"])) == [1, 2, 1]
    assert len(set(reference(adapter, texts).argmax(axis=1))) > 1


@pytest.mark.parametrize("form", ["merged", "gguf", "onnx", "openvino"])
def test_a_task_with_aspects(form, tiny_model, graph_of, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring", ASPECT)  # the weights of the plain one
    texts = clear_reviews([adapter], "服务")
    path = write_reviews(tmp_path / "r.csv", texts, "服务")
    graph_of("label_scoring")
    done = run(model_path=adapter, format=form, dtype="fp32", dataset=path, output=tmp_path / "out")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert values["task"]["template"] == ASPECT.template
    assert values["parity"]["agreement"] == 1.0
    assert values["parity"]["max_probability_difference"] < close(values["parity"]["runtime"])
    if FORMATS.load(form).takes_text:
        assert values["parity"]["whole_text_prompts"]["other_tokens"] == 2
