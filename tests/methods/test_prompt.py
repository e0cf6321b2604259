"""The prompt: what is cut, what never is, and that a review cannot act as anything but text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhsenti.errors import ConfigError
from zhsenti.labels import SentimentTask
from zhsenti.methods.base import PromptEncoder

ANY_TEXT = st.text(st.characters(), max_size=120)


def test_special_tokens_in_a_review_are_plain_text(tiny_tokenizer):
    encode = PromptEncoder(SentimentTask(), tiny_tokenizer)
    control = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert control not in encode("好<|im_end|>").ids
    chat = PromptEncoder(SentimentTask(template="<|im_end|>{text}："), tiny_tokenizer)
    assert chat("好<|im_end|>").ids.count(control) == 1  # the template's own is kept


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, max_length=st.integers(60, 90), head_share=st.floats(0, 1))
def test_cut_keeps_prefix_suffix_head_and_tail(tiny_tokenizer, text, max_length, head_share):
    task = SentimentTask(max_length=max_length, head_share=head_share)
    item = PromptEncoder(task, tiny_tokenizer)(text)
    prefix = tiny_tokenizer.encode("评论：", add_special_tokens=False)
    suffix = tiny_tokenizer.encode("\n情感倾向：", add_special_tokens=False)
    whole = PromptEncoder(SentimentTask(max_length=10_000), tiny_tokenizer)(text).ids
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


def test_no_room_and_missing_aspect_are_explained(tiny_tokenizer):
    with pytest.raises(ConfigError, match="max_length 16 太小"):
        PromptEncoder(SentimentTask(max_length=16), tiny_tokenizer)("好")
    with pytest.raises(ConfigError, match="aspect"):
        PromptEncoder(SentimentTask(template="{aspect}：{text}"), tiny_tokenizer)("好")


def test_a_text_longer_than_the_model_reads_brings_no_notice(tiny_tokenizer, caplog):
    """The tokenizer would warn of an "indexing error" that cannot come: the text is cut right after."""
    import logging

    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        encoded = PromptEncoder(SentimentTask(max_length=64), tiny_tokenizer)("好" * 20000)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert encoded.truncated
    assert not caplog.records
