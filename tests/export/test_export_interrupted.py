"""What an export replaces, and what it leaves when it fails, is stopped or is killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.exporting import contents, description, run, spoil_load
from tests.paths import ROOT
from zhsenti.core.files import hold
from zhsenti.export.place import MARK


def test_a_second_export_to_the_same_place_is_refused(adapters, reviews, tmp_path):
    output = tmp_path / "out"
    flags = {"model_path": adapters["label_scoring"], "dataset": reviews, "output": output, "dtype": "fp32"}
    with hold(tmp_path / ".out.lock", "导出", output, "--output"):
        assert run(**flags).refused("另一个导出正在写", str(output))
        assert not output.exists()
    assert run(**flags).rc == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_takes_the_place_of_an_older_one_only_when_it_is_right(export, tmp_path):
    assert export().rc == 0
    before = contents(tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        spoil_load(patch, "merged", lambda scores: scores[:, ::-1])
        assert export().refused("不一致")
    assert contents(tmp_path) == {f"out/{name}": data for name, data in before.items()}
    (tmp_path / "out" / "my notes.txt").write_text("of the older one", encoding="utf-8")
    assert export(format="gguf").rc == 0
    assert set(description(tmp_path / "out")["files"]) >= {"model.gguf", "Modelfile"}
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
    "where", ["zhsenti.export.merged.Merged.write", "zhsenti.export.merged.Merged.load", "zhsenti.artifact.seal"]
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
from zhsenti.export.merged import Merged
write = Merged.write
def killed(*given):
    write(*given)
    os.kill(os.getpid(), signal.SIGKILL)
Merged.write = killed
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
