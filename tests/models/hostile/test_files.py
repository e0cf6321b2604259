"""Files that a saved adapter may not hold: pickles, links, pipes, what its manifest does not name."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from tests.models.hostile.folders import Payload, refused, reseal
from zhsenti.artifact import MANIFEST, open_artifact
from zhsenti.core.errors import ModelError, exit_on_error
from zhsenti.models.adapter_check import CONFIG, WEIGHTS
from zhsenti.models.sources import resolve_model
from zhsenti.models.untrusted import read_json
from zhsenti.prediction import command


def test_what_is_not_hostile_passes(adapters, base):
    for folder in adapters.values():
        assert exit_on_error(command.main, ["--model_path", str(folder), "--text", "好"]) == 0
    (base / "pytorch_model.bin").write_bytes(pickle.dumps({}))  # hub repositories hold both
    assert resolve_model(str(base)).path == base


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
