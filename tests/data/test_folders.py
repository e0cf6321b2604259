"""Which files of a folder are data: the same at every door."""

from __future__ import annotations

import pytest

from tests.data.files import ROWS, kept, predict, train, write
from zhsenti.audit.config import AuditConfig
from zhsenti.audit.files import read_splits
from zhsenti.core.errors import DataError
from zhsenti.prediction.batch.inputs import find_inputs
from zhsenti.task import SentimentTask


def audited(folder):
    return [split.name for split in read_splits(AuditConfig(files=[str(folder)]), SentimentTask())[0]]


def test_hidden_files_and_the_lock_of_an_excel_that_is_open_are_no_data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.csv", ROWS)
    for name in ("~$train.csv", "~$more.xlsx", ".train.csv"):
        (folder / name).write_bytes(b"\x04Ann" + bytes(161))
    (folder / "说明.txt").write_text("不是表格", encoding="utf-8")
    assert sorted(kept(train(folder))) == sorted(ROWS)
    assert audited(folder) == ["train"]
    files, [note] = find_inputs(str(folder))
    assert files == [folder / "train.csv"]
    assert "说明.txt" in note
    assert "~$" not in note


@pytest.mark.parametrize("door", [train, audited, predict])
def test_what_is_called_like_data_and_cannot_be_read_is_no_silent_loss(door, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.csv", ROWS)
    (folder / "dev.csv").symlink_to("nowhere.csv")
    with pytest.raises(DataError, match=r"dev\.csv[\s\S]*nowhere\.csv"):
        door(folder)
    (folder / "dev.csv").unlink()
    (folder / "dev.csv").mkdir()
    with pytest.raises(DataError, match=r"dev\.csv 是文件夹"):
        door(folder)
