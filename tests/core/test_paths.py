"""Where things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhsenti.core.paths import cache_root, package_file, user_path


def test_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZHSENTI_CACHE", raising=False)
    assert cache_root() == tmp_path / ".cache" / "zhsenti"
    monkeypatch.setenv("ZHSENTI_CACHE", "~/c")
    assert cache_root() == tmp_path / "c"
    assert user_path("~no_such_user/x") == Path("~no_such_user/x")
    assert package_file("zhsenti", "py.typed").is_file()
    assert package_file("zhsenti.core").is_dir()
    with pytest.raises(ModuleNotFoundError):
        package_file("zhsenti.no_such_package")
