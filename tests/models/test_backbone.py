"""The C library's memory setting: what it is for, and where it is left alone."""

from __future__ import annotations

import platform

import pytest
import torch

from zhsenti.models.backbone import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_kept_for_the_next_pass():
    import resource

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    keep_freed_memory()
    torch.ones(4_000_000)
    before = faults()
    for _ in range(20):
        torch.ones(4_000_000)  # 16 MB, 4,000 pages
    assert faults() - before < 8_000


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_: pytest.fail("glibc's function called"))
    keep_freed_memory()
