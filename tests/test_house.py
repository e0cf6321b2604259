"""Rules of the house: imports point one way, public names are frozen, --help is cheap, YAMLs run."""

from __future__ import annotations

import ast
import errno
import graphlib
import os
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import zhsenti
from tests.paths import ROOT
from zhsenti.core.errors import ConfigError, exit_on_error
from zhsenti.core.flags import parse
from zhsenti.evaluation.config import EvalConfig
from zhsenti.methods import METHODS
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask
from zhsenti.training.config import TrainConfig

ORDER = [
    "core", "task", "data", "models", "methods", "artifact", "training", "prediction", "audit", "evaluation", "serving",
    "export", "doctor", "cli", "__main__",
]  # fmt: skip
PACKAGE = ROOT / "zhsenti"


def imports(path):
    """Dotted names of zhsenti's own modules that the file imports, wherever in it, also for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zhsenti":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / whole.replace(".", "/")).with_suffix(".py").is_file()
                is_package = (ROOT / whole.replace(".", "/")).is_dir()
                found.add(whole if is_module or is_package else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "zhsenti"}
    return found - {"zhsenti"}


def modules():
    """Dotted name and path of every module; a package's ``__init__`` has the package's name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_imports_point_one_way():
    upward = []
    for name, path in modules():
        if name == "zhsenti":
            continue
        layer = name.split(".")[1]
        for module in imports(path):
            if ORDER.index(module.split(".")[1]) > ORDER.index(layer):
                upward.append(f"{name} -> {module}")
    assert not upward


def test_no_two_neighbours_import_each_other():
    """In every folder: a module or a folder that another one imports, however far round, does not import that one."""
    arrows = {}
    for name, path in modules():
        for module in imports(path):
            ours, theirs = name.split("."), module.split(".")
            depth = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
            if depth is not None:
                arrows.setdefault(".".join(ours[: depth + 1]), set()).add(".".join(theirs[: depth + 1]))
    sorter = graphlib.TopologicalSorter(arrows)
    sorter.prepare()  # raises CycleError, which names the round


def test_nothing_outside_methods_names_a_method():
    names = {name for method in map(METHODS.load, METHODS) for name in (method.name, method.__name__)}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "methods"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Name, ast.Attribute)):
                said = node.id if isinstance(node, ast.Name) else node.attr
            else:
                said = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            found += [f"{path.name}: {name}" for name in names if name in said and "experiments/" not in said]
    assert not found


def test_docstrings_are_in_the_convention_that_tools_read():
    """Google style. What was here before, ``name  meaning;  name  meaning``, is read by none."""
    old = re.compile(r"(^|;|\. )\s*[`a-z_][\w`, ]*?\w`?  [`A-Za-z(0-9]", re.MULTILINE)
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (ast.get_docstring(node) or "").splitlines()
                drawn = [line for line in lines if not line.startswith(("    ", "├", "└", "Zhsenti"))]
                found += [f"{path.name}: {line}" for line in drawn if old.search(line) or " Raises " in line]
    assert not found


def test_the_package_looks_at_nothing_outside_itself():
    """No path above the package, no script, no change of where modules are found; a clone is only recognised."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        signs = ["sys.path", "parents[2]", "scripts/train", "run_full_eval", "run_path"]
        found += [f"{path.name}: {sign}" for sign in signs if sign in text and path.name != "findings.py"]
    assert not found


def test_public_names_are_frozen():
    assert zhsenti.__all__ == ["Prediction", "SentimentPredictor", "SentimentTask", "ZhsentiError", "__version__"]
    assert all(getattr(zhsenti, name) for name in zhsenti.__all__)


@pytest.mark.parametrize("script", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "scripts").glob("*.py")))
def test_help_does_not_load_torch(script):
    if script.endswith("demo.py"):
        pytest.skip("the demo has no flags of its own")
    code = (
        f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as e: assert not e.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--model_" in done.stdout


def test_the_task_of_a_yaml_is_resolved(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("task: {labels: [差, 好]}\n", encoding="utf-8")
    config, _ = parse(TrainConfig, ["--config", str(path)], "")
    assert config.resolved_task().labels == ("差", "好")


def test_every_yaml_is_runnable_and_says_so():
    found = sorted((PACKAGE / "configs").rglob("*.yaml"))
    assert len(found) >= 4
    for path in found:
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        assert head[0].startswith("# "), path
        assert f"--config {path.stem}" in head[1], path
        config, _ = parse(TrainConfig, ["--config", str(path)], "")
        config.resolved_task()


def test_the_lower_bounds_are_the_oldest_set_that_was_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {}
    for requirement in map(Requirement, project["dependencies"]):
        (lower,) = (s.version for s in requirement.specifier if s.operator in (">=", "=="))
        bounds[requirement.name] = Version(lower)
    lines = (ROOT / "constraints-min.txt").read_text(encoding="utf-8").splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert bounds == {name: Version(version) for name, version in oldest.items()}


def test_config_defaults_are_valid():
    for cls in (TrainConfig, PredictConfig, EvalConfig):
        parse(cls, [], "")


def test_task_faults_are_collected():
    with pytest.raises(ConfigError, match=r"words[\s\S]*template"):
        SentimentTask(labels=("a", "b"), words=("x",), template="没有")
    with pytest.raises(ConfigError, match="同时指"):
        SentimentTask(labels=("a", "b"), aliases={"a": ("1",), "b": ("1.0",)})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_one_message(number, capsys):
    def main(argv):
        raise OSError(number, os.strerror(number), "outputs/metrics.json")

    assert exit_on_error(main) == 2
    assert "outputs/metrics.json" in capsys.readouterr().err


def test_other_os_errors_keep_their_traceback():
    def main(argv):
        raise FileNotFoundError(errno.ENOENT, "a bug")

    with pytest.raises(FileNotFoundError):
        exit_on_error(main)
