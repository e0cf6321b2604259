"""What the tests of exports share: adapters that have something to say, exports through the real entry, spoilt ones."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhsenti import SentimentPredictor, cli
from zhsenti.artifact import broken_files
from zhsenti.core.errors import exit_on_error
from zhsenti.export.base import Format, Reloaded
from zhsenti.export.formats import FORMATS
from zhsenti.export.onnx import Onnx
from zhsenti.export.place import MARK
from zhsenti.methods import METHODS
from zhsenti.methods.base import Method

CASES = [(method, form) for form in FORMATS for method in METHODS if form != "gguf" or METHODS.load(method).has_lm_head]


def method_of(adapter: Path) -> Method:
    return SentimentPredictor.from_folder(adapter).method


def reference(adapter: Path, texts: list[str], aspects: list[str] | None = None) -> np.ndarray:
    """The adapter's own log-probabilities (N, C), without a temperature."""
    return SentimentPredictor.from_folder(adapter, temperature=1.0).log_probs(texts, aspects)


def clear_reviews(adapters: list[Path], aspect: str | None = None) -> list[str]:
    """Sixty reviews that no adapter finds hard, so that rounding turns no label: 56 short ones with both answers of the
    first adapter, two too long for a prompt, two that write a control token.
    """
    draw = random.Random(0)
    signs = "好差坏吵新旧远近贵般很不房间酒店，。a1"
    texts = list(dict.fromkeys("".join(draw.choices(signs, k=draw.randint(2, 14))) for _ in range(400)))
    long = ["".join(draw.choices(signs, k=draw.randint(150, 300))) for _ in range(40)]
    kinds = [texts, [f"{text}<|im_end|>" for text in texts[:60]], long]
    candidates = [text for kind in kinds for text in kind]
    clear, answers = np.ones(len(candidates), dtype=bool), []
    for adapter in adapters:
        scores = reference(adapter, candidates, [aspect] * len(candidates) if aspect else None)
        best = np.sort(scores, axis=1)
        clear &= best[:, -1] - best[:, -2] > 0.5
        answers.append(scores.argmax(axis=1))
    easy = {text: answer for text, answer, ok in zip(candidates, answers[0], clear, strict=True) if ok}
    short, control, cut = ([text for text in kind if text in easy] for kind in kinds)
    rare = min(set(easy.values()), key=list(easy.values()).count)
    few = [text for text in short if easy[text] == rare][:28]
    return [*few, *[text for text in short if easy[text] != rare][: 56 - len(few)], *control[:2], *cut[:2]]


def write_reviews(path: Path, texts: list[str], aspect: str | None = None) -> Path:
    columns, rows = ("text,aspect", [f"{text},{aspect}" for text in texts]) if aspect else ("text", texts)
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """One run of ``zhsenti export``: its exit code and what it said."""

    rc: int
    out: str
    err: str

    def refused(self, *said: str) -> bool:
        """Exit code 2, one message with all of ``said``, no traceback and no word of success."""
        found = (self.rc, self.out, self.err.count("错误："), "Traceback" in self.err)
        assert found == (2, "", 1, False), self.err
        assert all(part in self.err for part in said), self.err
        return True


@dataclass(frozen=True)
class Export:
    """A whole export.

    Attributes:
        folder: Where it lies.
        done: What the command said.
        connections: Those that were tried meanwhile.
    """

    folder: Path
    done: Done
    connections: list[str]


@contextmanager
def watched() -> Iterator[list[str]]:
    """Lists what reaches for the network, by a socket, a name or OpenVINO's telemetry, and lets none of it through.

    Forked processes, from which that telemetry sends, are watched too: the list is filled from a file at the end.
    """
    seen: list[str] = []

    def caught(name: str) -> Any:
        def call(*args: Any, **_: Any) -> None:
            os.write(log.fileno(), f"{name} {[a for a in args if isinstance(a, (str, tuple))]}\n".encode())
            raise OSError("no network in this test")

        return call

    with tempfile.TemporaryFile("ab+") as log, pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, caught(name))
        for name in ("getaddrinfo", "gethostbyname"):
            patch.setattr(socket, name, caught(name))
        if importlib.util.find_spec("openvino_telemetry"):
            patch.setattr("openvino_telemetry.utils.sender.TelemetrySender.send", caught("telemetry"))
        yield seen
        log.seek(0)
        seen += log.read().decode().splitlines()


def run(**flags: Any) -> Done:
    """``zhsenti export --name value …`` as the console script runs it."""
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        rc = exit_on_error(cli.main, ["export", *words])
    return Done(rc, out.getvalue(), err.getvalue())


def description(folder: Path) -> dict[str, Any]:
    """``zhsenti_export.json`` of a whole export: strict JSON, and every file is as it was sealed."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    values = json.loads((folder / MARK).read_text(encoding="utf-8"), parse_constant=refuse)
    assert not broken_files(folder, values["files"])
    assert {path.name for path in folder.iterdir()} == {MARK, *values["files"]}
    return values


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below ``folder``, hidden names too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flip(network: Any) -> None:
    """Every logit changes its sign: the likeliest label becomes the least likely one."""
    network.model.norm.weight.data.neg_()


def spoil_write(patch: pytest.MonkeyPatch, form: str) -> None:
    """Weights that say the opposite are written."""
    kind = type(FORMATS.load(form))
    write = kind.write

    def spoilt(self: Format, method: Method, network: Any, folder: Path, dtype: str) -> None:
        flip(network)
        write(self, method, network, folder, dtype)

    patch.setattr(kind, "write", spoilt)


def spoil_load(patch: pytest.MonkeyPatch, form: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """What was written scores otherwise: ``change`` is given its log-probabilities."""
    kind = type(FORMATS.load(form))
    load = kind.load

    def spoilt(self: Format, method: Method, folder: Path) -> Reloaded:
        reloaded = load(self, method, folder)
        return dataclasses.replace(reloaded, score=lambda rows: change(reloaded.score(rows).copy()))

    patch.setattr(kind, "load", spoilt)


def reuse_graph(patch: pytest.MonkeyPatch, stored: Path) -> None:
    """What torch would trace is copied from the export in ``stored``."""

    def write(_self: Format, _method: Any, _network: Any, folder: Path, _dtype: str) -> None:
        for path in stored.glob("model.onnx*"):
            shutil.copy(path, folder)

    patch.setattr(Onnx, "write", write)


def close(runtime: str) -> float:
    """How far probabilities may lie from the adapter's: some CPUs let OpenVINO compute in 16 bits."""
    return 0.15 if "bf16" in runtime or "f16" in runtime else 1e-3
