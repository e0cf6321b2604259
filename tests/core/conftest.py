"""What the tests of flags and of their help page share."""

import pytest

from tests.core.flag_configs import write


@pytest.fixture
def configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "packaged"
    folder.mkdir()
    write(folder / "laptop.yaml", "seed: 1\n")
    write(folder / "gpu.yaml", "seed: 2\nsede: 3\n")
    return folder
