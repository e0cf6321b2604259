"""What a stranger can do to a saved folder, and how a command refuses it."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from zhsenti.artifact import MANIFEST, seal
from zhsenti.core.errors import exit_on_error
from zhsenti.models.adapter_check import CONFIG, WEIGHTS
from zhsenti.prediction import command

HEAD = "base_model.model.score.weight"


class Payload:
    """What unpickling would do: make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return builtins.open, (str(self.trace), "w")


def reseal(folder: Path, **changes) -> None:
    """As an attacker would: whatever the folder holds now, its manifest names with the right hash."""
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    seal(folder, MANIFEST, {key: value for key, value in {**values, **changes}.items() if key != "files"})


def configure(folder: Path, name: str = CONFIG, **changes) -> None:
    values = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(values | changes), encoding="utf-8")


def reweigh(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def refused(folder: Path, capsys) -> str:
    """What a user sees: ``scripts/inference.py`` ends with one message and exit code 2."""
    assert exit_on_error(command.main, ["--model_path", str(folder), "--text", "好"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("错误：")
    assert "怎么办" in said
    assert "Traceback" not in said
    return said
