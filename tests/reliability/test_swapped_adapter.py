"""An adapter that is replaced by a new one is whole at any moment."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zhsenti.core import files


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at_once", [True, False], ids=["Linux", "elsewhere"])
@pytest.mark.parametrize("moment", range(4))
def test_an_adapter_that_is_replaced_is_whole_after_a_kill(tmp_path, monkeypatch, at_once, moment):
    """Killed before the n-th change to the disk; then the next run recovers."""
    folder, new, count = tmp_path / "lora_adapter", tmp_path / ".lora_adapter.1", 0
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
