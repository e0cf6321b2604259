"""What only label scoring has: words of several tokens, whose probabilities are over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch

from zhsenti.methods import get_method, label_scoring
from zhsenti.models.backbone import LoraOptions, Tokenizer
from zhsenti.models.precision import pick_precision
from zhsenti.task import SentimentTask

TEXTS = ("很好", "房间很差，再也不来了。" * 3, "一般", "不错", "😀👍")


@pytest.mark.parametrize("reviews_at_once", [1, 2, 4])
def test_the_vocabulary_in_parts_gives_the_same_numbers_and_gradients(tiny_model, monkeypatch, reviews_at_once):
    """All logits of a pass of 16,384 tokens would be 4 GB."""
    task = SentimentTask(labels=("负面", "中性", "正面"))
    method = get_method("label_scoring")(task, Tokenizer(tiny_model))
    assert not method.single_token
    torch.manual_seed(1)
    lora = LoraOptions(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
    scorer = method.build(tiny_model, pick_precision("fp32"), lora=lora)
    with torch.no_grad():
        for parameter in scorer.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)

    def run():
        out = scorer(**method.collate([method.encode(text, n % 3) for n, text in enumerate(TEXTS)]))
        out["loss"].backward()
        gradients = [p.grad.clone() for p in scorer.parameters() if p.requires_grad]
        scorer.zero_grad(set_to_none=True)
        return out["logits"].detach(), gradients

    whole, whole_gradients = run()
    vocabulary = len(scorer.network.get_base_model().lm_head.weight)
    words = sum(map(len, method.word_ids))
    monkeypatch.setattr(label_scoring, "LOGITS", reviews_at_once * words * vocabulary)
    widths = []
    original = method._token_log_probs
    monkeypatch.setattr(method, "_token_log_probs", lambda *a: widths.append(len(a[0])) or original(*a))
    parts, parts_gradients = run()
    assert max(widths) == reviews_at_once
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)
    for mine, theirs in zip(parts_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
