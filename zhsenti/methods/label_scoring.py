"""Label scoring: the causal LM reads the prompt and the log-probability of each label word decides.

PET (Schick & Schütze 2021, arXiv:2001.07676) with a causal LM: p(c | x) = p(word_c | prompt(x)) normalised over the
label words. Trained and used through the same restricted softmax. Shapes: see methods/base.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zhsenti.labels import SentimentTask
from zhsenti.methods.base import Method, last_hidden
from zhsenti.models.backbone import Precision, load_backbone, unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LabelScoring(Method):
    name = "label_scoring"
    title = "标签打分"

    def __init__(self, task: SentimentTask, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(task, tokenizer)
        self.word_ids = [tokenizer.encode(w, add_special_tokens=False, split_special_tokens=True) for w in task.words]

    @property
    def single_token(self) -> bool:
        return all(len(ids) == 1 for ids in self.word_ids)

    def notices(self) -> list[str]:
        if self.single_token:
            return []
        longer = "、".join(
            f"{w}（{len(ids)}）" for w, ids in zip(self.task.words, self.word_ids, strict=True) if len(ids) > 1
        )
        return [f"标签词 {longer} 不止一个 token：可以用，但每条要按标签各算一遍，约慢 {len(self.word_ids)} 倍。"]

    def load(self, folder: Path, precision: Precision, *, use_qlora: bool = False) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        return load_backbone(folder, AutoModelForCausalLM, precision, use_qlora=use_qlora)

    def log_probs(self, network: nn.Module, input_ids: Tensor, lengths: Tensor) -> Tensor:
        model = unwrap(network)
        if self.single_token:
            last_BD = last_hidden(model.model, input_ids, lengths)
            rows_CD = model.lm_head.weight[torch.tensor([ids[0] for ids in self.word_ids], device=last_BD.device)]
            with torch.autocast(last_BD.device.type, enabled=False):
                return F.log_softmax(F.linear(last_BD.float(), rows_CD.float()), dim=-1)
        scores_BC = self._word_log_likelihoods(model, input_ids, lengths)
        return F.log_softmax(scores_BC, dim=-1)

    def _word_log_likelihoods(self, model: PreTrainedModel, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """log p(word_c | prompt_b) over the full vocabulary, summed over the word's tokens, float32 (B, C).

        Every (review, word) pair is one row; with the word w1 w2 after a prompt of three tokens:

        tokens    p1 p2 p3 w1 __        (the word's last token is predicted, never read)
        predicts  .  .  w1 w2 .         positions length-1 … length-1 + len(word)-1
        """
        B, C = len(lengths), len(self.word_ids)
        longest = max(map(len, self.word_ids))
        device = input_ids.device
        words_CN = torch.tensor([ids + [0] * (longest - len(ids)) for ids in self.word_ids], device=device)
        real_CN = torch.tensor([[n < len(ids) for n in range(longest)] for ids in self.word_ids], device=device)

        rows = F.pad(input_ids, (0, longest - 1)).repeat_interleave(C, dim=0)  # (B*C, T + N - 1)
        positions = (lengths.repeat_interleave(C) - 1)[:, None] + torch.arange(longest, device=device)  # (B*C, N)
        words, real = words_CN.repeat(B, 1), real_CN.repeat(B, 1)
        if longest > 1:
            rows = rows.scatter(1, positions[:, 1:], words[:, :-1])

        hidden = model.model(input_ids=rows, use_cache=False).last_hidden_state
        picked = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))  # (B*C, N, D)
        with torch.autocast(device.type, enabled=False):
            logits = F.linear(picked.to(model.lm_head.weight.dtype), model.lm_head.weight).float()  # (B*C, N, V)
        per_token = F.log_softmax(logits, dim=-1).gather(-1, words[..., None]).squeeze(-1)
        return (per_token * real).sum(-1).view(B, C)
