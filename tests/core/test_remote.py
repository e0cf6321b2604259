"""Why a source gave nothing, in words; and quiet libraries."""

from __future__ import annotations

import logging

import pytest

from zhsenti.core.remote import reason_of, silenced


def error(*names: str) -> Exception:
    """An error of the first name, which those of the other names led to."""
    first, *causes = (type(name, (Exception,), {})("what a library says\nand more") for name in names)
    for effect, cause in zip([first, *causes], causes, strict=False):
        effect.__cause__ = cause
    return first


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["LocalEntryNotFoundError"], "没有"),
        (["LocalEntryNotFoundError", "ConnectError"], "连不上"),
        (["RuntimeError", "MaxRetryError", "NameResolutionError"], "连不上"),
        (["OfflineModeIsEnabled"], "连不上"),
        (["DatasetNotFoundError"], "没有这个模型"),
        (["RepositoryNotFoundError", "HTTPStatusError"], "没有这个模型"),
        (["GatedRepoError", "HTTPStatusError"], "需要授权"),
        (["FileNotFoundError"], "what a library says"),
        (["ValueError", "KeyError"], "what a library says"),
    ],
)
def test_the_errors_behind_an_error_say_why(names, said):
    assert reason_of(error(*names), "模型") == said


def test_libraries_are_quiet_and_speak_again_afterwards(caplog):
    log = logging.getLogger("a.library")
    with silenced():
        log.error("retrying")
        log.critical("on fire")
    with pytest.raises(ValueError, match="x"), silenced():
        raise ValueError("x")
    log.error("heard")
    assert [record.message for record in caplog.records] == ["on fire", "heard"]
