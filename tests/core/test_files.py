"""Where files go: what cannot be written is said before anything is computed."""

from __future__ import annotations

import pytest

from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable


def test_what_cannot_be_written_names_the_flag_to_change(tmp_path):
    check_writable(tmp_path / "not" / "yet" / "there", "--output")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="不能写入输出目录") as caught:
        check_writable(tmp_path / "file" / "results", "--output")
    assert "file 是文件" in caught.value.found
    assert caught.value.todo == "换一个 --output。"
