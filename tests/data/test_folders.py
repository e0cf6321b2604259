"""Which files of a folder are data: the same at every door."""

from __future__ import annotations

import pytest

from tests.data.files import ROWS, kept, predict, train, write
from tests.fakes import KeywordPredictor
from zhsenti.audit.config import AuditConfig
from zhsenti.audit.files import read_splits
from zhsenti.core.errors import DataError
from zhsenti.prediction.batch.inputs import find_inputs
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask


@pytest.fixture
def folder(tmp_path):
    """With a train.csv that is whole."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.csv", ROWS)
    return tmp_path / "data"


def audited(folder):
    return [split.name for split in read_splits(AuditConfig(files=[str(folder)]), SentimentTask())[0]]


def by_pattern(folder):
    config = PredictConfig(input=str(folder / "*.csv"), output=str(folder.parent / "out.csv"))
    predict_file(config, SentimentTask(), KeywordPredictor)


def test_hidden_files_and_the_lock_of_an_excel_that_is_open_are_no_data(folder):
    for name in ("~$train.csv", "~$more.xlsx", ".train.csv"):
        (folder / name).write_bytes(b"\x04Ann" + bytes(161))
    (folder / "说明.txt").write_text("不是表格", encoding="utf-8")
    assert sorted(kept(train(folder))) == sorted(ROWS)
    assert audited(folder) == ["train"]
    files, [note] = find_inputs(str(folder))
    assert files == find_inputs(str(folder / "*.csv"))[0] == [folder / "train.csv"]
    assert "说明.txt" in note
    assert "~$" not in note


@pytest.mark.parametrize("door", [train, audited, predict, by_pattern])
def test_a_link_that_leads_nowhere_is_no_silent_loss(door, folder):
    (folder / "dev.csv").symlink_to("nowhere.csv")
    with pytest.raises(DataError, match=r"dev\.csv[\s\S]*nowhere\.csv"):
        door(folder)


@pytest.mark.parametrize("door", [train, audited, predict])
def test_nor_is_a_folder_that_is_called_like_a_table(door, folder):
    (folder / "dev.csv").mkdir()
    with pytest.raises(DataError, match=r"dev\.csv 是文件夹"):
        door(folder)
