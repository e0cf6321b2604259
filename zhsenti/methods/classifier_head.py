"""Classifier head: same prompt and backbone, a float32 linear layer on the last real token. Shapes: methods/base.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.methods.base import Method
from zhsenti.models.backbone import Precision, load_backbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ClassifierHead(Method):
    name = "classifier_head"
    title = "分类头"
    head = "score"

    def load(self, folder: Path, precision: Precision, *, use_qlora: bool = False) -> PreTrainedModel:
        """The backbone with a zero float32 head: all classes start equal.

        Hidden states after Qwen's last norm are long (hundreds), so the usual N(0, 0.02) head would start with
        logits of several units and a loss far above log C.
        """
        from transformers import AutoModelForSequenceClassification

        labels = dict(enumerate(self.task.labels))
        model = load_backbone(
            folder, AutoModelForSequenceClassification, precision, use_qlora=use_qlora, num_labels=len(labels)
        )
        model.config.id2label, model.config.label2id = labels, {label: i for i, label in labels.items()}
        head: Any = model.score
        nn.init.zeros_(head.to(torch.float32).weight)
        return model

    def log_probs(self, network: Any, hidden_PD: Tensor) -> Tensor:
        return F.log_softmax(network.score(hidden_PD.float()), dim=-1)
