"""Classifier head: same prompt and backbone, a float32 linear layer on the last real token. Shapes: methods/base.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from zhsenti.methods.base import Method
from zhsenti.models.precision import Precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class ClassifierHead(Method):
    name = "classifier_head"
    title = "分类头"
    english = "classifier head"
    auto_class = "AutoModelForSequenceClassification"
    peft_task = "SEQ_CLS"
    head = "score"  # where transformers' classifiers have theirs, so that an export is an ordinary one

    def load(
        self, folder: Path, precision: Precision, *, use_qlora: bool = False, device: torch.device | None = None
    ) -> PreTrainedModel:
        model = super().load(folder, precision, use_qlora=use_qlora, device=device)
        labels = dict(enumerate(self.task.labels))
        model.config.id2label, model.config.label2id = labels, {label: i for i, label in labels.items()}
        return model

    def log_probs(self, network: Any, hidden_PD: Tensor) -> Tensor:
        return F.log_softmax(network.score(hidden_PD.float()), dim=-1)

    def output_rows(self, network: Any) -> Tensor:
        return network.score.weight
