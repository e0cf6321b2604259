"""A fourth method as a stranger would write it, outside the package: a loss and a head of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.methods.base import Method

SMOOTHING = 0.1


class Rater(nn.Linear):
    """Logits (…, C) of hidden states (…, D): a linear layer whose every class has a scale of its own."""

    def __init__(self, hidden_size: int, classes: int, **kwargs: Any) -> None:
        super().__init__(hidden_size, classes, bias=False, **kwargs)
        self.scale = nn.Parameter(torch.empty(classes, **kwargs))

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) * self.scale

    def rows(self) -> Tensor:
        """The same as one matrix (C, D)."""
        return self.weight * self.scale[:, None]


class ToyMethod(Method):
    """Rates the prompt's last token, trained with smoothed labels (Szegedy et al. 2016, arXiv:1512.00567).

    Register it with ``METHODS["toy"] = ToyMethod``.
    """

    name = "toy"
    title = "玩具"
    english = "toy"
    head = "rater"

    def make_head(self, hidden_size: int) -> nn.Module:
        rater = Rater(hidden_size, len(self.task.labels), device="meta").to_empty(device="cpu")
        nn.init.zeros_(rater.weight)
        nn.init.ones_(rater.scale)
        return rater

    def log_probs(self, network: Any, hidden_PD: Tensor) -> Tensor:
        return F.log_softmax(network.rater(hidden_PD.float()), dim=-1)

    def loss(self, log_probs_BC: Tensor, labels_B: Tensor) -> Tensor:
        return F.cross_entropy(log_probs_BC, labels_B, reduction="sum", label_smoothing=SMOOTHING)

    def output_rows(self, network: Any) -> Tensor:
        return network.rater.rows()

    def export(self, network: Any) -> Any:
        """transformers' own classifier of this family: it has a ``score`` where this one has its rater."""
        from transformers import AutoModelForSequenceClassification

        config = copy.deepcopy(network.config)
        config.id2label = dict(enumerate(self.task.labels))
        config.label2id = {label: index for index, label in config.id2label.items()}
        with torch.device("meta"):
            classifier = AutoModelForSequenceClassification.from_config(config)
        classifier.model = network.model
        rows_CD = network.rater.rows().detach()
        classifier.score = nn.Linear(rows_CD.shape[1], rows_CD.shape[0], bias=False, device=rows_CD.device)
        classifier.score.weight = nn.Parameter(rows_CD, requires_grad=False)
        return classifier
