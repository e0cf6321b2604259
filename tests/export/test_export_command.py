"""``zhsenti export`` as a whole: what is left when it worked, and that nothing is left when it did not."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exporting import (
    CASES,
    clear_reviews,
    close,
    contents,
    description,
    flip,
    make_adapter,
    method_of,
    reference,
    run,
    write_reviews,
)

from zhsenti.artifact import open_artifact, store_calibration
from zhsenti.core.files import hold
from zhsenti.export import gguf, merged
from zhsenti.export.formats import FORMATS, MARK
from zhsenti.task import SentimentTask

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "merged": {"config.json", "generation_config.json", "model.safetensors"},
    "gguf": {"model.gguf", "Modelfile"},
    "onnx": {"model.onnx", "model.onnx.data"},
    "openvino": {"openvino_model.xml", "openvino_model.bin"},
}


def test_a_second_export_to_the_same_place_is_refused(adapters, reviews, tmp_path):
    output = tmp_path / "out"
    flags = {"model_path": adapters["label_scoring"], "dataset": reviews, "output": output, "dtype": "fp32"}
    with hold(tmp_path / ".out.lock", "导出", output, "--output"):
        assert run(**flags).refused("另一个导出正在写", str(output))
        assert not output.exists()
    assert run(**flags).rc == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("method", "form"), CASES)
def test_an_export_says_what_the_adapter_says(method, form, exported, adapters, texts):
    found, manifest = exported(method, form), open_artifact(adapters[method]).manifest
    values = description(found.folder)
    named = FILES[form] - ({"generation_config.json"} if method == "classifier_head" else set())
    assert set(values["files"]) == named | {"tokenizer.json", "tokenizer_config.json"}
    assert (values["format"], values["dtype"], values["method"]) == (form, "fp32", method)
    assert (values["base"], values["temperature"]) == (manifest.base, 1.0)
    assert values["adapter_sha256"] == manifest.files["adapter_model.safetensors"]
    assert set(FORMATS[form].libraries) < set(values["versions"])
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
    reloaded = FORMATS[form].module().load(made, exported(method, form).folder)
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
        for part in (f"已导出到 {found.folder}", "60 条中标签相同的 100.00%", "用法：", "docs/export.md"):
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
    store_calibration(adapter, {"temperature": 3.0})
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
    if FORMATS[form].takes_text:
        assert values["parity"]["whole_text_prompts"]["other_tokens"] == 2


# What is refused ------------------------------------------------------------------------------------------------------


def spoil_write(monkeypatch, module):
    write = module.write

    def spoilt(method, network, folder, dtype):
        flip(network)
        write(method, network, folder, dtype)

    monkeypatch.setattr(module, "write", spoilt)


def spoil_load(monkeypatch, form, change):
    module = FORMATS[form].module()
    load = module.load

    def spoilt(method, folder):
        reloaded = load(method, folder)
        return dataclasses.replace(reloaded, score=lambda rows: change(reloaded.score(rows).copy()))

    monkeypatch.setattr(module, "load", spoilt)


@pytest.mark.parametrize("module", [merged, gguf])
def test_other_weights_on_the_disk_are_refused(module, export, monkeypatch, tmp_path):
    spoil_write(monkeypatch, module)
    form = module.__name__.rsplit(".", 1)[1]
    assert export(format=form).refused("不一致", "60 条中标签相同的 0.00%", "reviews:1、reviews:2", "99.5%")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("method", "form"), [("label_scoring", "onnx"), ("classifier_head", "openvino")])
def test_a_graph_that_answers_otherwise_is_refused(method, form, adapters, graph_of, export, monkeypatch, tmp_path):
    graph_of(method)
    spoil_load(monkeypatch, form, lambda scores: scores[:, ::-1])
    assert export(model_path=adapters[method], format=form).refused("不一致", "0.00%")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["label_scoring", "classifier_head"])
def test_an_adapter_left_out_is_refused(method, adapters, export, monkeypatch, tmp_path):
    """The mistake that is easiest to make: the bare base, whole and well written."""
    from zhsenti.models.precision import pick_precision

    def bare(made, base, adapter):
        network = made.build(base, pick_precision("fp32"), merge=True).network
        return network.cpu().eval()

    monkeypatch.setattr(merged, "merge", bare)
    assert export(model_path=adapters[method]).refused("不一致")
    assert not list(tmp_path.iterdir())


def test_one_row_of_sixty_is_too_many(export, monkeypatch, tmp_path):
    flipped = []

    def one(scores):
        if not flipped:
            flipped.append(scores[0])
            scores[0] = scores[0, ::-1]
        return scores

    spoil_load(monkeypatch, "merged", one)
    assert export().refused("98.33%")
    assert not list(tmp_path.iterdir())


def test_no_numbers_are_refused(export, monkeypatch, tmp_path):
    def nan(scores):
        scores[-1] = np.nan
        return scores

    spoil_load(monkeypatch, "merged", nan)
    assert export().refused("NaN")
    assert not list(tmp_path.iterdir())


# What is in the way, and what goes wrong ------------------------------------------------------------------------------


def test_an_export_takes_the_place_of_an_older_one_only_when_it_is_right(export, tmp_path):
    assert export().rc == 0
    before = contents(tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        spoil_load(patch, "merged", lambda scores: scores[:, ::-1])
        assert export().refused("不一致")
    assert contents(tmp_path) == {f"out/{name}": data for name, data in before.items()}
    (tmp_path / "out" / "my notes.txt").write_text("of the older one", encoding="utf-8")
    assert export(format="gguf").rc == 0
    assert set(description(tmp_path / "out")["files"]) >= FILES["gguf"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled_and_parents_are_made(export, tmp_path):
    (tmp_path / "out").mkdir()
    assert export().rc == 0
    assert export(output=tmp_path / "new" / "deep" / "out").rc == 0
    assert description(tmp_path / "new" / "deep" / "out") == description(tmp_path / "out")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))],
    ids=["bug", "ctrl-c", "disk full"],
)
@pytest.mark.parametrize(
    "where", ["zhsenti.export.merged.write", "zhsenti.export.merged.load", "zhsenti.artifact.seal"]
)
def test_an_exception_in_the_middle_leaves_what_was_there(where, error, export, exported, monkeypatch, tmp_path):
    shutil.copytree(exported("label_scoring", "merged").folder, tmp_path / "out")
    before = contents(tmp_path)

    def fail(*args):
        for folder in (arg for arg in args if isinstance(arg, Path)):
            (folder / "half").write_bytes(b"0" * 100)
        raise error

    monkeypatch.setattr(where, fail)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a bug"):
            export()
    else:
        done = export()
        assert (done.rc, done.out) == ((130, "") if isinstance(error, KeyboardInterrupt) else (2, ""))
    assert contents(tmp_path) == before


def test_a_kill_in_the_middle_leaves_nothing_that_looks_done(export, adapter, reviews, tmp_path):
    script = f"""
import os, signal
from zhsenti.export import merged
write = merged.write
def killed(method, network, folder, dtype):
    write(method, network, folder, dtype)
    os.kill(os.getpid(), signal.SIGKILL)
merged.write = killed
from zhsenti.cli import main
main(["export", "--model_path", {str(adapter)!r}, "--dataset", {str(reviews)!r}, "--output", {str(tmp_path / "out")!r}])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "已导出" not in done.stdout
    lock, left = sorted(tmp_path.iterdir(), key=Path.is_dir)
    assert lock.name == ".out.lock"
    assert left.name.startswith(".out.")
    assert (left / "model.safetensors").is_file()
    assert not (left / MARK).exists()
    assert export().rc == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
