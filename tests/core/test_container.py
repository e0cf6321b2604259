"""What a container allows is read in both versions of Linux control groups."""

from __future__ import annotations

import pytest

from zhsenti.core import container


@pytest.mark.parametrize("version", [0, 1])
def test_the_limit_of_either_version_counts(version, tmp_path, monkeypatch):
    files = [(tmp_path / f"limit{number}", tmp_path / f"used{number}") for number in range(2)]
    monkeypatch.setattr(container, "MEMORY", files)
    limit, used = files[version]
    limit.write_text("2000000000\n")
    assert container.memory_limit() is None
    used.write_text("1500000000\n")
    assert container.memory_limit() == (2_000_000_000, 1_500_000_000)
    limit.write_text("max\n")
    assert container.memory_limit() is None
