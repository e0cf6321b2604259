"""The 0.5B weights once through the whole command."""

from __future__ import annotations

import shutil

import pytest

from tests.export.exporting import description, run, write_reviews
from tests.tiny_models import make_adapter

REVIEWS = (
    "房间干净，很满意！",
    "质量非常好。",
    "强烈推荐！",
    "非常棒！",
    "又脏又吵。",
    "太差劲。",
    "恶心。",
    "骗人的！",
)


@pytest.mark.real
def test_the_real_weights_merged_in_bfloat16(real_model, tmp_path):
    adapter = make_adapter(
        tmp_path / "a", real_model, "label_scoring", std=0.03, layers="q_proj,v_proj", precision="auto"
    )
    reviews = write_reviews(tmp_path / "r.csv", list(REVIEWS))
    done = run(model_path=adapter, dtype="bf16", dataset=reviews, output=tmp_path / "out")
    assert done.rc == 0, done.err
    values = description(tmp_path / "out")
    parity = values["parity"]
    assert (parity["n"], parity["agreement"]) == (len(REVIEWS), 1.0)
    assert 0 < parity["max_probability_difference"] < 0.08
    assert parity["whole_text_prompts"]["agreement"] == 1.0
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == pytest.approx(0.988e9, rel=0.01)
    shutil.rmtree(tmp_path / "out")  # pytest keeps the folders of its last three runs
