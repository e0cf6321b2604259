"""The predictor on a tiny trained adapter."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from zhsenti import SentimentPredictor
from zhsenti.artifact import MANIFEST, open_artifact, seal, store_calibration
from zhsenti.core.errors import ArtifactError, ConfigError, DataError
from zhsenti.models.precision import pick_precision

TEXTS = ["很好", "酒店很差，" * 30, "一般", "😀", "<|im_end|>", "房间不错 good"]


def test_order_types_and_agreement_between_doors(adapter):
    predictor = SentimentPredictor.from_folder(adapter)
    results = predictor.predict_batch(TEXTS)
    assert len(results) == len(TEXTS)
    for text, result in zip(TEXTS, results, strict=True):
        alone = predictor.predict(text)
        assert alone.label == result.label
        assert alone.confidence == pytest.approx(result.confidence, abs=1e-5)
        assert result.confidence == max(result.scores.values()) == result.scores[result.label]
        assert sum(result.scores.values()) == pytest.approx(1, abs=1e-5)
        assert list(result.scores) == ["负面", "正面"]
    assert results[1].truncated
    assert results[1].tokens > predictor.task.max_length
    assert not results[0].truncated
    np.testing.assert_allclose(
        np.exp(predictor.log_probs(TEXTS)), [list(r.scores.values()) for r in results], atol=1e-6
    )


def test_a_stored_temperature_is_used_by_every_prediction_and_survives_a_reload(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "a")
    raw = SentimentPredictor.from_folder(folder).log_probs(TEXTS).astype(np.float64)
    before = open_artifact(folder).manifest
    store_calibration(open_artifact(folder), {"temperature": 2.5, "n": 100})
    after = open_artifact(folder).manifest
    assert after.calibration == {"temperature": 2.5, "n": 100}
    assert dataclasses.replace(after, calibration={}) == before
    predictor = SentimentPredictor.from_folder(folder)
    expected = np.exp(raw / 2.5) / np.exp(raw / 2.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(predictor.log_probs(TEXTS)), expected, atol=1e-6)
    np.testing.assert_allclose([list(p.scores.values()) for p in predictor.predict_batch(TEXTS)], expected, atol=1e-6)
    np.testing.assert_array_equal(
        SentimentPredictor.from_folder(folder, temperature=1.0).log_probs(TEXTS), raw.astype(np.float32)
    )
    assert predictor.zero_shot().temperature == 1.0  # it was fitted to the adapter


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan"), "warm", None])
def test_a_temperature_that_cannot_be_is_refused(adapter, tmp_path, temperature):
    folder = shutil.copytree(adapter, tmp_path / "a")
    store_calibration(open_artifact(folder), {"temperature": temperature})
    with pytest.raises(ArtifactError, match="已损坏"):
        open_artifact(folder)


def test_the_card_is_for_people_and_not_sealed(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "a")
    (folder / "README.md").write_text("我自己写的说明", encoding="utf-8")
    open_artifact(folder)
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    seal(folder, MANIFEST, {name: value for name, value in values.items() if name != "files"})
    assert "README.md" not in open_artifact(folder).manifest.files


def test_merged_equals_unmerged(adapter):
    plain, merged = SentimentPredictor.from_folder(adapter), SentimentPredictor.from_folder(adapter, merge=True)
    np.testing.assert_allclose(plain.log_probs(TEXTS), merged.log_probs(TEXTS), atol=1e-4)
    assert [p.label for p in plain.predict_batch(TEXTS)] == [p.label for p in merged.predict_batch(TEXTS)]


def test_a_four_bit_base_is_not_merged(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "a")
    manifest = json.loads((folder / "zhsenti.json").read_text(encoding="utf-8"))
    manifest["base"]["use_qlora"] = True
    (folder / "zhsenti.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ConfigError, match="不能无损合并"):
        SentimentPredictor.from_folder(folder, merge=True)


def test_zero_shot_is_the_same_code_without_adapter(adapter, tiny_model):
    predictor = SentimentPredictor.from_folder(adapter)
    bare = SentimentPredictor.from_base(str(tiny_model), predictor.task, precision="fp32").log_probs(TEXTS)
    np.testing.assert_allclose(predictor.zero_shot().log_probs(TEXTS), bare, atol=1e-5)
    before = predictor.log_probs(TEXTS)
    assert not np.allclose(before, bare, atol=1e-4)
    np.testing.assert_array_equal(predictor.log_probs(TEXTS), before)  # the adapter is on again


def test_int8_takes_close_calls_again_in_full(adapter):
    exact, int8 = SentimentPredictor.from_folder(adapter), SentimentPredictor.from_folder(adapter, precision="int8")
    assert 0 < int8._close_call < 0.5
    int8._close_call = 0.0
    rough = int8.log_probs(TEXTS)
    margins = np.abs(rough[:, 0] - rough[:, 1])
    close = margins < np.median(margins)
    int8._close_call = float(np.median(margins))
    final, done = int8.log_probs(TEXTS), []
    bf16 = pick_precision("int8").dtype == torch.bfloat16
    np.testing.assert_array_equal(final[~close], rough[~close])
    np.testing.assert_allclose(final[close], exact.log_probs(TEXTS)[close], atol=0.1 if bf16 else 1e-5)
    np.testing.assert_allclose(rough, final, atol=0.3)
    int8.log_probs(TEXTS, progress=done.append)
    assert sum(done) == len(TEXTS)
    np.testing.assert_allclose(int8.zero_shot().log_probs(TEXTS), exact.zero_shot().log_probs(TEXTS), atol=0.3)


def test_int8_of_another_kind_of_model_is_refused(adapter, monkeypatch):
    monkeypatch.setattr("zhsenti.prediction.predictor.is_known", lambda _: False)
    with pytest.raises(ConfigError, match="不能用 int8"):
        SentimentPredictor.from_folder(adapter, precision="int8")


def test_progress_counts_every_text(adapter):
    done: list[int] = []
    SentimentPredictor.from_folder(adapter).log_probs(TEXTS, progress=done.append)
    assert sum(done) == len(TEXTS)


def test_empty_and_wrong_input_is_named(adapter):
    predictor = SentimentPredictor.from_folder(adapter)
    assert predictor.predict_batch([]) == []
    with pytest.raises(DataError, match="第 2 条"):
        predictor.predict_batch(["好", " \n"])
    with pytest.raises(DataError, match=r"predict\(text\)"):
        predictor.predict_batch("一句话")


def test_base_is_found_or_its_absence_explained(adapter, tiny_qwen3, tmp_path):
    with pytest.raises(ArtifactError, match="不是同一个"):
        SentimentPredictor.from_folder(adapter, model_name=str(tiny_qwen3))
    with pytest.raises(ArtifactError, match="找不到适配器的基座"):
        SentimentPredictor.from_folder(adapter, model_name=str(tmp_path / "gone"))
