"""Manifests of adapters from strangers: refused with the reason, before anything they name is used."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.hostile.folders import Payload, refused, reseal
from zhsenti.artifact import MANIFEST, open_artifact
from zhsenti.core.errors import ArtifactError, exit_on_error
from zhsenti.models.adapter_check import CONFIG, WEIGHTS
from zhsenti.models.untrusted import MAX_BYTES
from zhsenti.prediction import command

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


@pytest.fixture(scope="module")
def spoilt(adapters, tmp_path_factory):
    """A copy of an adapter whose manifest is written anew for every case."""
    return shutil.copytree(adapters["label_scoring"], tmp_path_factory.mktemp("spoilt") / "lora_adapter")


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
def test_any_value_in_a_manifest_is_fine_or_one_error(adapters, spoilt, value, section, key):
    values = json.loads((adapters["label_scoring"] / MANIFEST).read_text(encoding="utf-8"))
    if key and isinstance(values[section], dict):
        values[section][key] = value
    else:
        values[section] = value
    (spoilt / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    with contextlib.suppress(ArtifactError):
        assert np.isfinite(open_artifact(spoilt).manifest.temperature)
