"""Label scoring: the causal LM reads the prompt and the log-probability of each label word decides.

PET (Schick & Schütze 2021, arXiv:2001.07676) with a causal LM: p(c | x) = p(word_c | prompt(x)) normalised over the
label words. Trained and used through the same restricted softmax. Shapes: see methods/base.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zhsenti.methods.base import Method
from zhsenti.models.backbone import Tokenizer
from zhsenti.task import SentimentTask

LOGITS = 2**26  # of the whole vocabulary, at once: 256 MB in float32


class LabelScoring(Method):
    name = "label_scoring"
    title = "标签打分"
    english = "label scoring"
    has_lm_head = True
    works_untrained = True

    def __init__(self, task: SentimentTask, tokenizer: Tokenizer) -> None:
        super().__init__(task, tokenizer)
        self.word_ids = [tokenizer.encode(w, split_special_tokens=True) for w in task.words]
        self._words_L = torch.tensor([token for ids in self.word_ids for token in ids])
        if not self.single_token:
            self.continuations = [ids[:-1] for ids in self.word_ids]

    @property
    def single_token(self) -> bool:
        return all(len(ids) == 1 for ids in self.word_ids)

    def notices(self) -> list[str]:
        if self.single_token:
            return []
        longer = "、".join(
            f"{w}（{len(ids)}）" for w, ids in zip(self.task.words, self.word_ids, strict=True) if len(ids) > 1
        )
        return [f"标签词 {longer} 不止一个 token：可以用，但要算整个词表的概率，略慢。"]

    def output_rows(self, network: Any) -> Tensor | None:
        """Rows (C, D) of the LM head; None where a label word has several tokens."""
        if not self.single_token:
            return None
        return network.lm_head.weight[self._words(network.lm_head.weight.device)]

    def _words(self, device: torch.device) -> Tensor:
        """All tokens of the label words (L,), copied to a GPU once: a copy would wait for all work there."""
        if self._words_L.device != device:
            self._words_L = self._words_L.to(device)
        return self._words_L

    def log_probs(self, network: Any, hidden_PD: Tensor) -> Tensor:
        rows_CD = self.output_rows(network)
        if rows_CD is not None:
            return F.log_softmax(F.linear(hidden_PD.float(), rows_CD.float()), dim=-1)
        # log p(word | prompt) over the whole vocabulary, summed over the word's tokens. For words [w1 w2] and [v1]:
        # state after   p   w1   p
        # predicts     w1   w2  v1
        head_VD = network.lm_head.weight
        hidden_BLD = hidden_PD.view(-1, len(self._words_L), hidden_PD.shape[-1])
        parts = hidden_BLD.split(max(1, LOGITS // (len(self._words_L) * len(head_VD))))
        if len(parts) > 1 and torch.is_grad_enabled():  # the backward pass would hold every part's logits
            per_token = [checkpoint(self._token_log_probs, part, head_VD, use_reentrant=False) for part in parts]
        else:
            per_token = [self._token_log_probs(part, head_VD) for part in parts]
        words = torch.cat(per_token).split([len(ids) for ids in self.word_ids], dim=1)
        return F.log_softmax(torch.stack([word.sum(1) for word in words], dim=-1), dim=-1)

    def _token_log_probs(self, hidden_BLD: Tensor, head_VD: Tensor) -> Tensor:
        """log p(token | what precedes it), float32 (B, L), of each token of the label words."""
        logits_BLV = F.linear(hidden_BLD.to(head_VD.dtype), head_VD).float()
        index_BL1 = self._words(head_VD.device)[None, :, None].expand(len(logits_BLV), -1, 1)
        return F.log_softmax(logits_BLV, dim=-1).gather(-1, index_BL1).squeeze(-1)
