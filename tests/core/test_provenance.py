"""What a result says about where it came from."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import zhsenti
from zhsenti.core import provenance
from zhsenti.core.provenance import command_line, library_versions, machine, machine_identity


def test_versions_are_those_installed():
    versions = library_versions("scikit-learn")
    assert list(versions)[:4] == ["zhsenti", "torch", "transformers", "peft"]
    assert versions["zhsenti"] == zhsenti.__version__
    assert versions["scikit-learn"] == metadata.version("scikit-learn")
    assert "scikit-learn" not in library_versions()
    assert library_versions("no-such-package")["no-such-package"] == "not installed"


def test_the_machine_in_cache_keys_has_four_values():
    identity = machine_identity()
    assert list(identity) == ["cpu", "cores", "platform", "gpu"]
    assert identity["cores"] == os.cpu_count()
    assert identity["platform"] == platform.platform()
    assert identity["cpu"]
    assert identity == machine_identity()


def test_the_machine_of_a_benchmark_has_more():
    seen = machine()
    assert machine_identity().items() <= seen.items()
    assert set(seen) - set(machine_identity()) == {"usable_cores", "memory_gb", "capability", "python"}
    assert 1 <= int(seen["usable_cores"] or 0) <= int(seen["cores"] or 0)


def test_without_proc_the_platform_names_the_cpu(monkeypatch):
    class Nowhere:
        def __init__(self, _: str) -> None:
            pass

        def read_text(self, **_: str) -> str:
            raise FileNotFoundError

    monkeypatch.setattr(provenance, "Path", Nowhere)
    assert machine_identity()["cpu"] == (platform.processor() or platform.machine())


def test_a_command_can_be_typed_again(monkeypatch):
    assert command_line("zhsenti evaluate", ["--model_path", "a b/c", "--text", "很好$HOME"]) == (
        "zhsenti evaluate --model_path 'a b/c' --text '很好$HOME'"
    )
    assert command_line("zhsenti evaluate", []) == "zhsenti evaluate"
    monkeypatch.setattr(sys, "argv", ["x", "--quick"])
    assert command_line("zhsenti evaluate") == "zhsenti evaluate --quick"
