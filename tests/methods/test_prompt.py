"""The prompt: what is cut, what never is, and that a review cannot act as anything but text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhsenti.core.errors import ConfigError
from zhsenti.methods.prompt import PromptEncoder
from zhsenti.models.backbone import Tokenizer
from zhsenti.task import SentimentTask

ANY_TEXT = st.text(st.characters(), max_size=120)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return Tokenizer(tiny_model)


def test_special_tokens_in_a_review_are_plain_text(tokenizer):
    encode = PromptEncoder(SentimentTask(), tokenizer)
    control = tokenizer.encode("<|im_end|>")[0]
    assert control not in encode("好<|im_end|>").ids
    chat = PromptEncoder(SentimentTask(template="<|im_end|>{text}："), tokenizer)
    assert chat("好<|im_end|>").ids.count(control) == 1  # the template's own is kept


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, max_length=st.integers(60, 90), head_share=st.floats(0, 1))
def test_cut_keeps_prefix_suffix_head_and_tail(tokenizer, text, max_length, head_share):
    task = SentimentTask(max_length=max_length, head_share=head_share)
    item = PromptEncoder(task, tokenizer)(text)
    prefix = tokenizer.encode("评论：")
    suffix = tokenizer.encode("\n情感倾向：")
    whole = PromptEncoder(SentimentTask(max_length=10_000), tokenizer)(text).ids
    assert len(item.ids) <= max_length
    assert item.ids[: len(prefix)] == prefix
    assert item.ids[-len(suffix) :] == suffix
    assert item.truncated == (len(whole) > max_length)
    assert item.tokens == len(whole)
    if item.truncated:
        room = max_length - len(prefix) - len(suffix)
        head = round(room * head_share)
        body, kept = whole[len(prefix) : -len(suffix)], item.ids[len(prefix) : -len(suffix)]
        assert kept == body[:head] + body[len(body) - (room - head) :]
    else:
        assert item.ids == whole


def test_no_room_and_missing_aspect_are_explained(tokenizer):
    with pytest.raises(ConfigError, match="max_length 16 太小"):
        PromptEncoder(SentimentTask(max_length=16), tokenizer)("好")
    with pytest.raises(ConfigError, match="aspect"):
        PromptEncoder(SentimentTask(template="{aspect}：{text}"), tokenizer)("好")


@given(text=ANY_TEXT, split=st.booleans())
def test_ids_are_those_of_transformers_own_tokenizer(tokenizer, qwen_tokenizer, text, split):
    clean = text.encode("utf-8", "replace").decode("utf-8")
    expected = qwen_tokenizer.encode(clean, add_special_tokens=False, split_special_tokens=split)
    assert tokenizer.encode(clean, split_special_tokens=split) == expected


@pytest.fixture(scope="module")
def qwen_tokenizer(tiny_model):
    from tokenizers.normalizers import NFC
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(tiny_model)
    found.backend_tokenizer.normalizer = NFC()  # as its class for Qwen2 sets; the tiny one is of a plain class
    return found
