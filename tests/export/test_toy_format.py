"""A fifth format costs one file and one line: added here from outside the package."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.exporting import description, method_of, reference, run, spoil_load
from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import parse
from zhsenti.export.config import ExportConfig
from zhsenti.export.formats import FORMATS


@pytest.fixture
def npz(monkeypatch):
    monkeypatch.setitem(FORMATS, "npz", "tests.export.toy_format:NPZ")  # the one line


def test_the_flags_know_it_only_while_it_is_there(npz, monkeypatch):
    config, _ = parse(ExportConfig, ["--format", "npz", "--dtype", "fp64"], "")
    assert (config.format, config.dtype) == ("npz", "fp64")
    monkeypatch.delitem(FORMATS, "npz")
    for words in (["--format", "npz"], ["--dtype", "fp64"]):
        with pytest.raises(ConfigError, match=words[1]):
            parse(ExportConfig, words, "")


def test_the_help_page_names_it(npz, capsys):
    with pytest.raises(SystemExit):
        parse(ExportConfig, ["--help"], "")
    page = capsys.readouterr().out
    assert "merged|gguf|onnx|openvino|npz" in page
    assert "fp64" in page


def test_it_is_written_compared_and_described(npz, export, adapter, texts, tmp_path):
    done = export(format="npz", dtype="auto")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    assert (values["format"], values["dtype"], values["parity"]["agreement"]) == ("npz", "fp64", 1.0)
    assert set(values["files"]) >= {"model.npz", "config.json", "tokenizer.json"}
    assert values["parity"]["max_probability_difference"] < 1e-3
    assert f'下一步：numpy.load("{tmp_path / "out"}/model.npz")' in done.out
    reloaded = FORMATS.load("npz").load(method_of(adapter), tmp_path / "out")
    short = [text for text in texts if len(text) < 20][:5]
    scores = reloaded.score([method_of(adapter).encode(text).ids for text in short])
    np.testing.assert_allclose(scores, reference(adapter, short), atol=1e-3)


def test_one_that_says_something_else_is_refused(npz, export, monkeypatch, tmp_path):
    spoil_load(monkeypatch, "npz", lambda scores: scores[:, ::-1])
    assert export(format="npz").refused("不一致", "60 条中标签相同的 0.00%")
    assert not list(tmp_path.iterdir())


def test_what_it_cannot_take_it_says_before_any_work(npz, adapters, reviews, tmp_path):
    done = run(model_path=adapters["classifier_head"], format="npz", dataset=reviews, output=tmp_path / "out")
    assert done.refused("分类头不能导出成 npz")
    assert not list(tmp_path.iterdir())
