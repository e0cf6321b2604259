"""Packages: missing, of another version, broken, crashing, hanging."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from tests.doctor.helpers import one
from tests.paths import ROOT
from zhsenti.doctor import accelerator, findings, libraries
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM
from zhsenti.doctor.probe import Imported, _environment, probe


@pytest.fixture
def clone(tmp_path):
    """A repository that needs packaging and psutil, with its constraints."""

    def clone(needs: list[str], constraints: str) -> Path:
        root = tmp_path / "clone"
        root.mkdir()
        (root / "pyproject.toml").write_text(f"[project]\nname = 'zhsenti'\ndependencies = {needs}\n")
        (root / "constraints.txt").write_text(constraints)
        return root

    return clone


def test_versions_as_pinned(clone):
    psutil_version = metadata.version("psutil")
    root = clone(["psutil>=1", "no-such; python_version < '3'"], f"# pins\npsutil=={psutil_version}\nunused==1\n")
    found = one(libraries.versions(root))
    assert (found.status, found.found) == (OK, "1 个都在，版本与 constraints.txt 一致")


def test_missing_broken_and_other_versions_are_all_listed(clone):
    needs = ["no-such-one", "no_such.two", "psutil>=1", "filelock>=999"]
    missing, broken, other = libraries.versions(clone(needs, "no-such-two==3.1\npsutil==1.0\n"))
    assert (missing.status, broken.status, other.status) == (PROBLEM, PROBLEM, NOTICE)
    assert "no-such-one（任意版本）、no-such-two（3.1）" in missing.found
    assert "filelock" in broken.found
    assert f"psutil {metadata.version('psutil')}（应为 1.0）" in other.found
    assert all("install -r requirements.txt" in found.todo for found in (missing, broken, other))


def test_what_a_requirement_needs_is_checked_too(clone):
    """huggingface-hub asks for filelock, which is not named here."""
    *_, other = libraries.versions(clone(["huggingface-hub"], "filelock==0.1\n"))
    assert "filelock" in other.found


def test_versions_of_a_wheel_are_judged_by_its_own_requirements(monkeypatch):
    monkeypatch.setattr(libraries, "clone_root", lambda: None)
    monkeypatch.setattr(libraries.metadata, "requires", lambda name: ["psutil>=999"] if name == "zhsenti" else [])
    found = one(libraries.versions())
    assert (found.status, "install --upgrade psutil" in found.todo) == (PROBLEM, True)


def test_this_clone_is_recognised():
    assert findings.clone_root() == ROOT
    assert libraries._pins(ROOT)["torch"] == "2.13.0"


def test_libraries_that_raise_crash_exit_or_hang_do_not_stop_the_others(fake_library):
    fake_library("good", "print('noise')")
    fake_library("raising", "raise OSError('libcudart.so.12: no such file\\nmore')")
    fake_library("crashing", "import os; os.abort()")
    fake_library("exiting", "import os; os._exit(3)")
    fake_library("leaving", "raise SystemExit(0)")
    names = ("good", "absent", "raising", "crashing", "exiting", "leaving", "json")
    found = probe(names, seconds=60)
    assert list(found) == list(names)
    assert found["good"].error == found["json"].error == ""
    assert found["raising"].error == "OSError: libcudart.so.12: no such file"
    assert "SIGABRT" in found["crashing"].error
    assert "代码 3" in found["exiting"].error
    assert found["leaving"].error == "SystemExit: 0"
    good, *bad = reversed(list(libraries.imports(found)))
    assert (good.status, "2 个库" in good.found) == (OK, True)
    assert {finding.status for finding in bad} == {PROBLEM}
    assert "没有安装：absent" in bad[-1].found


def test_a_library_that_hangs_is_ended(fake_library):
    fake_library("hanging", "import time; time.sleep(60)")
    start = time.monotonic()
    found = probe(("json", "hanging", "string"), seconds=2)
    assert time.monotonic() - start < 20
    assert found["json"].error == ""
    assert "还没有导入完" in found["hanging"].error
    assert "还没有轮到" in found["string"].error


@pytest.mark.parametrize("source", [None, "raise ImportError('undefined symbol: _ZN5torch')", "import os; os.abort()"])
def test_a_torch_that_is_missing_or_broken(fake_library, source):
    if source is None:
        fake_library("torch", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    else:
        fake_library("torch", source)
    found = probe(("torch", "matplotlib"))
    assert one(accelerator.torch(found["torch"])).status == PROBLEM
    assert one(accelerator.gpu(found["torch"], accelerator.Driver(), Imported())).status == NOTICE
    assert (
        one(accelerator.gpu(found["torch"], accelerator.Driver((("RTX", "535"),)), Imported())).todo == "先修好 torch。"
    )
    assert one(libraries.font(found)).status in (OK, NOTICE)
    missing, good = libraries.imports(found)
    assert (missing.status, good.status) == (PROBLEM, OK)
    assert ("requirements.txt" in missing.todo) == (source is None)
    assert source is None or "--force-reinstall --no-deps torch==2.13.0" in missing.todo


def test_the_real_torch_gives_its_facts():
    import torch

    found = probe(("torch",))["torch"]
    assert found.error == ""
    assert found.facts["version"] == torch.__version__
    assert found.facts["precision"] in ("bf16", "fp16", "fp32")


def test_font():
    assert one(libraries.font({"matplotlib": Imported(facts={"font": "SimHei"})})).found == "SimHei"
    assert one(libraries.font({"matplotlib": Imported(facts={"font": None})})).status == NOTICE
    assert one(libraries.font({"matplotlib": Imported("ImportError: x")})).status == NOTICE


def test_the_child_reads_the_package_that_the_parent_runs(tmp_path):
    """Found in the current folder, which the child does not search: files of the user's own lie there."""
    copy = shutil.copytree(ROOT / "zhsenti", tmp_path / "zhsenti", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "only_here.py").touch()
    code = "from zhsenti.doctor.probe import probe; print(probe(['zhsenti.only_here']))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "error=''" in done.stdout, done.stdout + done.stderr


def test_an_installed_package_does_not_come_before_the_standard_library(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert _environment()["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/elsewhere"])
    monkeypatch.setattr("site.getsitepackages", lambda: [str(ROOT)])
    assert _environment()["PYTHONPATH"] == "/elsewhere"


def test_advice_for_a_wheel_and_for_a_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "package_file", lambda _: ROOT / "zhsenti")
    assert findings.install_requirements().endswith("install -r requirements.txt")
    monkeypatch.setattr(findings, "package_file", lambda _: tmp_path / "zhsenti")
    assert findings.install_requirements().endswith("install zhsenti")
    for name in ("pyproject.toml", "constraints.txt"):  # of somebody else's project
        (tmp_path / name).write_text('[project]\nname = "other"\n')
    assert findings.clone_root() is None
