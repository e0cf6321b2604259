"""Qwen2, Qwen3 and their like over a TokenTrie: the same mathematics as transformers, with less work and memory.

What is not done: padding, shared beginnings twice, the last layer where nobody reads it, gradients of frozen weights.
Weights are read in place from the transformers and peft modules; nothing is copied or patched.

Shapes: N nodes, Q reads, D hidden size, H heads, d head size; R rows of T places in a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zhsenti.models.autograd import LoraLinear, RmsNorm, Swiglu, causal_attention, lora_parts
from zhsenti.models.int8 import Int8Linear
from zhsenti.models.trie import TokenTrie
from zhsenti.models.untrusted import FAMILY

Angles = tuple[Tensor, Tensor]


def decode(decoder: Any, trie: TokenTrie, *, checkpointing: bool = False) -> Tensor:
    """Final hidden states (Q, D) of the nodes in ``trie.reads``.

    decoder is the ``model`` of a transformers causal LM, with or without LoRA layers in it. A kind this module does
    not know, LoRA dropout in training and sharded weights (whose modules gather them when they are called) go through
    transformers' forward pass on padded rows: slower, same result.
    ``checkpointing`` keeps only each layer's input and computes the rest again (Chen et al. 2016, arXiv:1604.06174).
    """
    if not is_known(decoder) or is_sharded(decoder) or (decoder.training and _has_dropout(decoder)):
        return trie.collapse(_plain_blocks(decoder, trie.expand(trie.ids)))[trie.reads]
    with torch.autocast(trie.ids.device.type, enabled=False):
        x_ND = decoder.embed_tokens(trie.ids)
        cos, sin = decoder.rotary_emb(x_ND, trie.positions[None])
        angles = cos[0, :, None], sin[0, :, None]  # (N, 1, d)
        *layers, last = decoder.layers
        for layer in layers:
            if checkpointing and torch.is_grad_enabled():
                x_ND = checkpoint(_layer, layer, x_ND, angles, trie, use_reentrant=False, preserve_rng_state=False)
            else:
                x_ND = _layer(layer, x_ND, angles, trie)
        return _rms_norm(decoder.norm, _last_layer(last, x_ND, angles, trie))


def _plain_blocks(decoder: Any, blocks: list[Tensor]) -> list[Tensor]:
    """transformers' final hidden states of every block of ids (R, T). Sharded weights are gathered once a call, by all
    processes together, so there all blocks go through one call, padded on the right, which no real token sees."""
    if not is_sharded(decoder):
        return [decoder(input_ids=ids, use_cache=False).last_hidden_state for ids in blocks]
    longest = max(ids.shape[1] for ids in blocks)
    together = torch.cat([F.pad(ids, (0, longest - ids.shape[1])) for ids in blocks])
    states = decoder(input_ids=together, use_cache=False).last_hidden_state.split([len(ids) for ids in blocks])
    return [part[:, : ids.shape[1]] for part, ids in zip(states, blocks, strict=True)]


def is_known(decoder: Any) -> bool:
    """Whether ``decode`` has its own path for this kind of decoder."""
    config = decoder.config
    return config.model_type in FAMILY and config.hidden_act == "silu" and set(config.layer_types) == {"full_attention"}


def is_sharded(decoder: Any) -> bool:
    """Whether FSDP2 holds its weights."""
    return hasattr(decoder, "unshard")


def _has_dropout(decoder: nn.Module) -> bool:
    return any(m.p > 0 for name, m in decoder.named_modules() if "lora_dropout" in name and isinstance(m, nn.Dropout))


def _layer(layer: Any, x_ND: Tensor, angles: Angles, trie: TokenTrie) -> Tensor:
    return _mlp(layer, x_ND + linear(layer.self_attn.o_proj, _attend(layer, x_ND, angles, trie)))


def _last_layer(layer: Any, x_ND: Tensor, angles: Angles, trie: TokenTrie) -> Tensor:
    """The layer's output (Q, D) where it is read: attention needs the whole rows, what follows it only these nodes."""
    out_QD = _attend(layer, x_ND, angles, trie)[trie.reads]
    return _mlp(layer, x_ND[trie.reads] + linear(layer.self_attn.o_proj, out_QD))


def _attend(layer: Any, x_ND: Tensor, angles: Angles, trie: TokenTrie) -> Tensor:
    """What a layer's attention gives for every node (N, H·d), before its output projection."""
    attention = layer.self_attn
    normed_ND = _rms_norm(layer.input_layernorm, x_ND)
    heads = [_heads(attention, name, normed_ND, angles) for name in "qkv"]
    counts = [part.shape[1] for part in heads]
    # Attention runs over written-out rows; padding is only here, to the right, where no real query sees it.
    written = (block.transpose(1, 2).split(counts, dim=1) for block in trie.expand(torch.cat(heads, dim=1)))
    blocks = [causal_attention(q, k, v, attention.scaling) for q, k, v in written]
    return trie.collapse([out.transpose(1, 2).flatten(2) for out in blocks])


def _heads(attention: Any, name: str, x_ND: Tensor, angles: Angles) -> Tensor:
    """Queries, keys or values (N, H, d); the first two normed (Qwen3) and rotated."""
    heads = linear(getattr(attention, f"{name}_proj"), x_ND).view(len(x_ND), -1, attention.head_dim)
    if name == "v":
        return heads
    norm = getattr(attention, f"{name}_norm", None)
    return _rotate(heads if norm is None else _rms_norm(norm, heads), *angles)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864), halves layout."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _mlp(layer: Any, x_ND: Tensor) -> Tensor:
    normed_ND = _rms_norm(layer.post_attention_layernorm, x_ND)
    gated = Swiglu.apply(linear(layer.mlp.gate_proj, normed_ND), linear(layer.mlp.up_proj, normed_ND))
    return x_ND + linear(layer.mlp.down_proj, gated)


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    if x.is_cuda:  # one kernel instead of eight, where starting kernels is what takes the time
        return F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)
    return RmsNorm.apply(x, module.weight, module.variance_epsilon)


def linear(module: Any, x: Tensor) -> Tensor:
    """``module(x)`` for nn.Linear, a 4-bit linear layer, LoRA around one of them, or what Int8 made of these."""
    if isinstance(module, Int8Linear):
        if not module.int8.exact:
            return module(x)
        module = module.original
    return LoraLinear.apply(x, *lora_parts(module))
