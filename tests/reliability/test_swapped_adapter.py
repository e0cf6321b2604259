"""An adapter that is replaced by a new one is whole at any moment."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_models import make_adapter
from zhsenti import SentimentPredictor
from zhsenti.core import files
from zhsenti.core.errors import ArtifactError
from zhsenti.core.files import swap_in
from zhsenti.methods.base import Method


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at_once", [True, False], ids=["Linux", "elsewhere"])
@pytest.mark.parametrize("moment", range(4))
def test_an_adapter_that_is_replaced_is_whole_after_a_kill(tmp_path, monkeypatch, at_once, moment):
    """Killed before the n-th change to the disk; then the next run recovers."""
    folder, count = tmp_path / "lora_adapter", 0
    new = files.temporary_name(folder)
    for path, content in ((folder, "old"), (new, "new")):
        path.mkdir()
        for name in "ab":
            (path / name).write_text(content)

    def mortal(change: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal count
            if count == moment:
                raise Killed
            count += 1
            return change(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal(Path.rename))
        patch.setattr(files, "_exchange", mortal(files._exchange) if at_once else lambda *paths: False)
        patch.setattr(files.shutil, "rmtree", mortal(shutil.rmtree))
        with contextlib.suppress(Killed):
            files.swap_in(new, folder)
    files.recover(folder)
    assert {(folder / name).read_text() for name in "ab"} in ({"old"}, {"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["lora_adapter"]


@pytest.mark.hostile
def test_an_adapter_that_is_swapped_while_it_is_read_is_not_mixed_with_the_other(tiny_model, tmp_path, monkeypatch):
    """The labels of the folder that was checked, and the weights of the one that a training put there just then."""
    folder, other = tmp_path / "lora_adapter", tmp_path / "other"
    make_adapter(folder, tiny_model, "label_scoring", seed=1)
    make_adapter(other, tiny_model, "label_scoring", seed=2)
    build = Method.build

    def swapped(method, *args, **kwargs):
        swap_in(other, folder)
        return build(method, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "build", swapped)
        with pytest.raises(ArtifactError, match="在读的时候被换成了另一个适配器"):
            SentimentPredictor.from_folder(folder)
    SentimentPredictor.from_folder(folder)
