"""A stranger's tokenizer: no pattern of its own, and a panic of the library costs one text."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.tiny_models import make_adapter
from zhsenti import SentimentPredictor
from zhsenti.core.errors import DataError, ModelError
from zhsenti.models.backbone import QWEN_PATTERN, Tokenizer
from zhsenti.prediction.batch.windows import Question, score_window

pytestmark = pytest.mark.hostile


def with_pre_tokenizer(model, folder, value):
    shutil.copytree(model, folder)
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "pre_tokenizer": value}), encoding="utf-8")
    return folder


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


@pytest.mark.parametrize(
    "value",
    [
        split("(a+)+$"),  # catastrophic: a review of a few letters takes for ever, or panics
        sequence(split("(x+x+)+y"), BYTES),
        sequence(split(QWEN_PATTERN), split("(a|aa)+$"), BYTES),
        {"type": "Whitespace"},
        None,
    ],
)
def test_another_way_to_cut_texts_is_refused_when_the_folder_is_opened(tiny_model, tmp_path, value):
    with pytest.raises(ModelError, match="切分文本的方式不是 Qwen 的"):
        Tokenizer(with_pre_tokenizer(tiny_model, tmp_path / "base", value))


def test_the_familys_own_way_is_taken(tiny_model, tmp_path):
    folder = with_pre_tokenizer(tiny_model, tmp_path / "base", sequence(split(QWEN_PATTERN), BYTES))
    assert Tokenizer(folder).encode("房间很好，I'll be back 2026！")


class PanicException(BaseException):
    """As pyo3 names a panic of Rust."""


def test_a_panic_of_the_tokenizer_is_one_rows_error(tiny_model, tmp_path, monkeypatch):
    predictor = SentimentPredictor.from_folder(make_adapter(tmp_path / "lora_adapter", tiny_model, "label_scoring"))
    backend = predictor.method.tokenizer._backend

    class Panics:
        encode_special_tokens = False

        def encode(self, text, **options):
            if "坏" in text:
                raise PanicException("called `Result::unwrap()` on an `Err` value")
            return backend.encode(text, **options)

    monkeypatch.setattr(predictor.method.tokenizer, "_backend", Panics())
    with pytest.raises(DataError, match="分词器在这条文本上出错"):
        predictor.predict("坏的文本")
    found = score_window(predictor, [Question(text) for text in ("很好", "坏的文本", "一般")])
    assert [result.error is None for result in found] == [True, False, True]
    assert "分词器" in found[1].error
