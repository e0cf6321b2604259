"""What is refused before any work, each with one message that says what to do."""

from __future__ import annotations

import importlib.util
import os
from collections import namedtuple

import pytest

from tests.export.exporting import contents
from tests.tiny_models import make_adapter
from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import parse
from zhsenti.export.config import ExportConfig
from zhsenti.export.formats import DTYPES, FORMATS
from zhsenti.export.place import MARK, check_output, check_room


@pytest.mark.parametrize(
    ("form", "asked", "trained", "found"),
    [
        ("merged", "auto", "fp32", "fp32"),
        ("merged", "auto", "bf16", "bf16"),
        ("merged", "auto", "fp16", "fp16"),
        ("merged", "auto", "auto", "bf16"),
        ("merged", "auto", "int8", "bf16"),
        ("merged", "fp16", "fp32", "fp16"),
        ("gguf", "auto", "fp32", "fp16"),
        ("gguf", "q8_0", "fp32", "q8_0"),
        ("onnx", "auto", "bf16", "fp32"),
        ("openvino", "auto", "fp32", "fp16"),
        ("openvino", "fp32", "bf16", "fp32"),
    ],
)
def test_the_type_of_the_weights(form, asked, trained, found):
    assert FORMATS.load(form).pick_dtype(asked, trained) == found


@pytest.mark.parametrize(("form", "asked"), [("merged", "q8_0"), ("onnx", "fp16"), ("openvino", "bf16")])
def test_a_type_that_a_format_has_not_is_refused(form, asked, export, tmp_path):
    with pytest.raises(ConfigError, match=f"--dtype {asked}"):
        FORMATS.load(form).pick_dtype(asked, "fp32")
    assert export(format=form, dtype=asked).refused(f"{form} 不能用 --dtype {asked}", "auto、", "q8_0 只有 gguf 有")
    assert not list(tmp_path.iterdir())


def test_every_format_of_the_flag_is_in_the_table():
    for form in FORMATS:
        assert parse(ExportConfig, ["--format", form], "")[0].format == form
        assert FORMATS.load(form).name == form
    with pytest.raises(ConfigError, match=r"tflite[\s\S]*openvino"):
        parse(ExportConfig, ["--format", "tflite"], "")
    assert list(DTYPES) == ["auto", "bf16", "fp16", "fp32", "q8_0"]
    with pytest.raises(ConfigError, match=r"int4[\s\S]*q8_0"):
        parse(ExportConfig, ["--dtype", "int4"], "")


@pytest.mark.parametrize("form", FORMATS)
def test_an_adapter_of_a_four_bit_base_is_refused(form, tiny_model, export, tmp_path):
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring", use_qlora=True)
    done = export(model_path=adapter, format=form)
    assert done.refused("4 比特基座上训练的适配器不能导出", "--use_qlora")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_head_has_no_place_in_gguf(adapters, export, tmp_path):
    done = export(model_path=adapters["classifier_head"], format="gguf")
    assert done.refused("分类头不能导出成 gguf", "llama.cpp", "merged、onnx 或 openvino")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "library"), [("onnx", "onnxruntime"), ("onnx", "onnxscript"), ("openvino", "openvino")]
)
def test_a_missing_library_names_the_extra(form, library, export, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == library else find(name, *a))
    done = export(format=form, model_path=tmp_path / "not even an adapter")
    assert done.refused(f"没有 {library}\n", 'pip install "zhsenti[export]"')
    assert not list(tmp_path.iterdir())
    assert export(format="merged").rc == 0  # which needs none of them


def test_the_extra_installs_what_the_formats_name():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    extra = {line.split(">=")[0] for line in project["project"]["optional-dependencies"]["export"]}
    assert extra == {name for form in map(FORMATS.load, FORMATS) for name in form.libraries}


# The place ------------------------------------------------------------------------------------------------------------


def test_what_is_no_export_is_not_replaced(export, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.docx").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    for name in ("file", "folder"):
        assert export(output=tmp_path / name).refused("已经存在", MARK, "--output")
    assert contents(tmp_path) == before


def test_the_adapter_is_not_exported_into_itself(tiny_model, export, tmp_path):
    """It would no longer load: nothing may lie beside its files."""
    adapter = make_adapter(tmp_path / "a", tiny_model, "label_scoring")
    (tmp_path / "link").symlink_to(adapter)
    before = contents(tmp_path)
    for output in (adapter, adapter / "out", adapter / "deep" / "out", tmp_path / "link" / "out"):
        assert export(model_path=adapter, output=output).refused("适配器", "--output")
        assert contents(tmp_path) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "link"]


def test_an_export_that_holds_the_adapter_is_not_replaced(tiny_model, exported, export, tmp_path):
    import shutil

    shutil.copytree(exported("label_scoring", "merged").folder, tmp_path / "out")
    adapter = make_adapter(tmp_path / "out" / "a", tiny_model, "label_scoring")
    before = contents(tmp_path)
    assert export(model_path=adapter).refused("适配器在这里", "--output")
    assert contents(tmp_path) == before


def test_an_export_that_is_the_base_is_not_replaced(exported, export, tmp_path):
    import shutil

    base = shutil.copytree(exported("label_scoring", "merged").folder, tmp_path / "out")
    adapter = make_adapter(tmp_path / "a", base, "label_scoring")
    before = contents(tmp_path)
    assert export(model_path=adapter).refused("基座在这里", "--output")
    assert contents(tmp_path) == before
    assert export(model_path=adapter, output=base / "experiments" / "out").rc == 0  # people work beside their weights


def test_a_place_that_cannot_be_written_is_named(export, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert export(output=tmp_path / "file" / "out").refused("不能写入", "不可写", "--output。")
    if os.path.isdir("/proc/self"):  # where even root may not write
        assert export(output="/proc/zhsenti/out").refused("不能写入", "--output。")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_looking_at_the_place_leaves_nothing_there(adapter, tmp_path):
    check_output(tmp_path / "deep" / "out", adapter)
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", adapter)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_disk_without_room_is_named_before_anything_is_written(export, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    assert export(output=tmp_path / "new" / "out").refused("磁盘空间不够", "50.2 MB", "1.0 MB", "--output")
    assert not list(tmp_path.iterdir())


def test_the_room_that_is_asked_for_follows_format_and_type(monkeypatch, tmp_path):
    """Of a bfloat16 base of 1 GB: 0.5 G weights; OpenVINO's graph lies there in float32 meanwhile."""
    base = tmp_path / "base"
    base.mkdir()
    with (base / "model.safetensors").open("wb") as stream:
        stream.truncate(10**9)  # sparse
    usage = namedtuple("usage", "total used free")
    for form, dtype, needed in [
        ("merged", "bf16", 1.0),
        ("merged", "fp32", 2.0),
        ("gguf", "q8_0", 0.535),
        ("openvino", "fp16", 3.0),
    ]:
        for factor, enough in ((1.3, True), (1.0, False)):
            free = int(needed * factor * 1e9)
            monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(10**12, 0, free))
            if enough:
                check_room(tmp_path / "out", FORMATS.load(form).room(dtype), base)
            else:
                with pytest.raises(ConfigError, match="磁盘空间不够"):
                    check_room(tmp_path / "out", FORMATS.load(form).room(dtype), base)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"samples": 10}, "samples"),
        ({"format": "tflite"}, "tflite"),
        ({"dataset": "/nowhere/at/all.csv"}, "/nowhere/at/all.csv"),
        ({"model_path": "/nowhere/adapter"}, "没有这个适配器文件夹"),
        ({"model_name": "/nowhere/base"}, "找不到适配器的基座"),
    ],
)
def test_mistakes_in_flags_are_one_message(flags, said, export, tmp_path):
    assert export(**flags).refused(said)
    assert not list(tmp_path.iterdir())
