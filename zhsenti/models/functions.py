"""Differentiable pieces of a frozen decoder with LoRA: each keeps its inputs alone and makes the rest again.

Frozen weights have no gradients here. N tokens; R rows, T their length, H and K query and key heads, d head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from zhsenti.models.int8 import Int8Linear

# On a CPU, rows up to here are faster by plain products than by the fused kernel (docs/log.md, 2026-11-23: a layer's
# backward over 1,024 tokens takes 9 against 22 ms in rows of 51, 29 against 19 in rows of 256).
SHORT_ROWS = 128


def dense_weight(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight (out, in) of a linear layer; a 4-bit one is unpacked for the moment it is used."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(base.weight.data, state).to(dtype)


class LoraLinear(Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ with W, b frozen (Hu et al. 2021, arXiv:2106.09685). Keeps x alone.

    x (N, in), W (out, in), A (r, in), B (out, r); A and B are float32 and multiply in x's type.
    Backward with g = dL/dy:  dx = g W + s (g B) A,  dA = s (g B)ᵀ x,  dB = s gᵀ (x Aᵀ).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Any, lora_A: Tensor | None, lora_B: Tensor | None, scale: float) -> Tensor:
        y = base(x) if isinstance(base, Int8Linear) else F.linear(x, dense_weight(base, x.dtype), base.bias)
        ctx.base, ctx.scale = base, scale
        if lora_A is not None and lora_B is not None:
            ctx.save_for_backward(x, lora_A, lora_B)
            y.addmm_(x @ lora_A.to(x.dtype).t(), lora_B.to(x.dtype).t(), alpha=scale)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        g_x = g @ dense_weight(ctx.base, g.dtype) if ctx.needs_input_grad[0] else None
        saved = ctx.saved_tensors  # read once: with checkpointing a second read would recompute the layer
        if not saved:
            return g_x, None, None, None, None
        x, lora_A, lora_B = saved
        A, B = lora_A.to(g.dtype), lora_B.to(g.dtype)
        g_h = (g @ B).mul_(ctx.scale)
        if g_x is not None:
            g_x.addmm_(g_h, A)
        g_A = (g_h.t() @ x).to(lora_A.dtype)
        g_B = ((x @ A.t()).mul_(ctx.scale).t() @ g).t().to(lora_B.dtype)
        return g_x, None, g_A, g_B, None


class RmsNorm(Function):
    """y = w x / sqrt(mean(x²) + eps) in float32 (Zhang & Sennrich 2019, arXiv:1910.07467), w frozen. Keeps x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        exact = x.float()
        inverse = exact.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return weight * (exact * inverse).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        normed = x.float() * inverse
        g_normed = (g * weight).float()
        g_normed -= normed.mul_((g_normed * normed).mean(-1, keepdim=True))
        return g_normed.mul_(inverse).to(x.dtype), None, None


class Swiglu(Function):
    """silu(gate) · up (Shazeer 2020, arXiv:2002.05202). Keeps the two inputs; the product is made again."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(g * up, gate), F.silu(gate).mul_(g)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal grouped-query attention: q (R, H, T, d), k and v (R, K, T, d) -> (R, H, T, d)."""
    if q.device.type == "cpu" and q.shape[2] <= SHORT_ROWS:
        return ShortAttention.apply(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


class ShortAttention(Function):
    """softmax(scale q kᵀ + mask) v by plain products; the G = H / K heads of a group are stacked as (R·K, G·T, d)."""

    @staticmethod
    def _probabilities(q: Tensor, k: Tensor, scale: float) -> Tensor:
        T = k.shape[1]
        scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale).view(len(q), -1, T, T)
        future = torch.full((T, T), float("-inf")).triu(1)
        return torch.softmax(scores.add_(future), dim=-1).view(len(q), -1, T)

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        (R, K, _, d), dtype = k.shape, q.dtype
        q_, k_, v_ = (x.reshape(R * K, -1, d) for x in (q, k, v))
        p = ShortAttention._probabilities(q_, k_, scale).to(dtype)
        return torch.bmm(p, v_).view(q.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        (R, K, _, d), dtype = k.shape, q.dtype
        q_, k_, v_, g_ = (x.reshape(R * K, -1, d) for x in (q, k, v, g))
        p = ShortAttention._probabilities(q_, k_, ctx.scale)
        g_v = torch.bmm(p.to(dtype).transpose(1, 2), g_)
        g_p = torch.bmm(g_, v_.transpose(1, 2)).float()
        g_s = g_p.sub_((g_p * p).sum(-1, keepdim=True)).mul_(p).mul_(ctx.scale).to(dtype)
        g_q, g_k = torch.bmm(g_s, k_), torch.bmm(g_s.transpose(1, 2), q_)
        return g_q.view(q.shape), g_k.view(k.shape), g_v.view(v.shape), None
