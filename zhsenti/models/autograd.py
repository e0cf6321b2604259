"""Differentiable pieces of a frozen decoder with LoRA: each keeps its inputs alone and makes the rest again.

Frozen weights have no gradients here. N tokens; R rows, T their length, H and K query and key heads, d head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

# Queries that attend at once on a CPU: their scores stay in the cache. Forward and backward are twice as fast as the
# fused kernel in rows of 64 to 256 tokens, six times in rows of 31 (docs/log.md, 2026-11-24).
BLOCK = 64


def dense_weight(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight (out, in) of a linear layer; a 4-bit one is unpacked for the moment it is used."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(base.weight.data, state).to(dtype)


def lora_parts(module: Any) -> tuple[Any, Tensor | None, Tensor | None, float]:
    """The frozen layer, A, B and s of a LoRA layer (peft's or ours); None for A and B without one, or switched off."""
    if not hasattr(module, "lora_A"):
        return module, None, None, 1.0
    if module.disable_adapters or module.merged:
        return module.base_layer, None, None, 1.0
    (name,) = module.active_adapters
    return module.base_layer, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]


class LoraLinear(Function):
    """y = x Wᵀ + b + s h Bᵀ, h = x Aᵀ, with W, b frozen (Hu et al. 2021, arXiv:2106.09685). Keeps x and h.

    x (N, in), W (out, in), A (r, in), B (out, r); A and B are float32 and multiply in x's type,
    in copies that are made once.
    Backward with g = dL/dy:  dx = g W + s (g B) A,  dA = s (g B)ᵀ x,  dB = s gᵀ h.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Any, lora_A: Tensor | None, lora_B: Tensor | None, scale: float) -> Tensor:
        y = F.linear(x, dense_weight(base, x.dtype), base.bias)
        ctx.base, ctx.scale = base, scale
        if lora_A is not None and lora_B is not None:
            A, B = lora_A.to(x.dtype), lora_B.to(x.dtype)
            h = x @ A.t()
            ctx.save_for_backward(x, h, A, B)
            ctx.trained = lora_A.dtype, lora_B.dtype
            y.addmm_(h, B.t(), alpha=scale)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        g_x = g @ dense_weight(ctx.base, g.dtype) if ctx.needs_input_grad[0] else None
        saved = ctx.saved_tensors  # read once: with checkpointing a second read would recompute the layer
        if not saved:
            return g_x, None, None, None, None
        x, h, A, B = saved
        g_h = (g @ B).mul_(ctx.scale)
        if g_x is not None:
            g_x.addmm_(g_h, A)
        g_A = (g_h.t() @ x).to(ctx.trained[0])
        g_B = (h.t() @ g).t().to(ctx.trained[1]).mul_(ctx.scale)
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
    if q.device.type == "cpu":
        return BlockAttention.apply(q, k, v, scale)
    return fused_attention(q, k, v, scale, grouped=has_flash(q))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, *, grouped: bool) -> Tensor:
    """torch's own causal attention.

    Args:
        q: Queries (R, H, T, d).
        k: Keys (R, K, T, d).
        v: Values (R, K, T, d).
        scale: Of the scores.
        grouped: Whether the kernel at hand takes K < H as it is. Only the flash kernel does: for the others keys and
            values are repeated, or torch would compute all scores (R, H, T, T) in float32.

    Returns:
        (R, H, T, d).
    """
    if not grouped:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)


def has_flash(q: Tensor) -> bool:
    """Whether torch has its flash kernel for queries ``q`` on a GPU: 16-bit numbers, Ampere or later."""
    return q.dtype in (torch.bfloat16, torch.float16) and torch.cuda.get_device_capability(q.device) >= (8, 0)


def leave_cudnn_out() -> None:
    """Keep this process's attention on a GPU off cuDNN's kernel, which Hopper and later would take.

    It builds a graph for every new shape, and shapes change with every update. For the whole process, since a layer
    that is computed again in the backward pass has to take the kernel it took before.
    """
    if torch.cuda.is_available():
        torch.backends.cuda.enable_cudnn_sdp(False)


class BlockAttention(Function):
    """softmax(scale q kᵀ + mask) v, BLOCK queries at a time against the keys up to them; keeps q, k and v.

    The G = H / K query heads that share keys are stacked: (R·K, G·BLOCK, d) times (R·K, d, keys). With p the
    probabilities and g = dL/dout:  dv = pᵀ g,  dp = g vᵀ,  ds = scale p (dp - Σ dp p),  dq = ds k,  dk = dsᵀ q.
    """

    @staticmethod
    def _grouped(*heads: Tensor, K: int) -> list[Tensor]:
        """(R, H, T, d) -> (R·K, H / K, T, d)."""
        return [x.reshape(len(x) * K, -1, *x.shape[2:]) for x in heads]

    @staticmethod
    def _probabilities(q: Tensor, k: Tensor, start: int, scale: float) -> Tensor:
        """Float32 probabilities (R·K, G·B, keys) of the queries from ``start`` on; q (R·K, G·B, d)."""
        scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale)
        keys = k.shape[1]
        B = keys - start
        future = torch.full((B, B), float("-inf")).triu_(1)
        scores.view(len(q), -1, B, keys)[..., start:].add_(future)
        return torch.softmax(scores, dim=-1)

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        q_, k_, v_ = BlockAttention._grouped(q, k, v, K=k.shape[1])
        k_, v_, T = k_[:, 0], v_[:, 0], q.shape[2]
        out = torch.empty_like(q_)
        for start in range(0, T, BLOCK):
            end = min(T, start + BLOCK)
            p = BlockAttention._probabilities(q_[:, :, start:end].flatten(1, 2), k_[:, :end], start, scale)
            out[:, :, start:end] = torch.bmm(p.to(q.dtype), v_[:, :end]).unflatten(1, (-1, end - start))
        return out.view(q.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        q_, k_, v_, g_ = BlockAttention._grouped(q, k, v, g, K=k.shape[1])
        k_, v_, T = k_[:, 0], v_[:, 0], q.shape[2]
        g_q = torch.empty_like(q_)
        g_k, g_v = (torch.zeros(k_.shape, dtype=torch.float32) for _ in "kv")
        for start in range(0, T, BLOCK):
            end = min(T, start + BLOCK)
            q_b, g_b = (x[:, :, start:end].flatten(1, 2) for x in (q_, g_))
            p = BlockAttention._probabilities(q_b, k_[:, :end], start, ctx.scale)
            g_v[:, :end] += torch.bmm(p.to(q.dtype).transpose(1, 2), g_b)
            g_p = torch.bmm(g_b, v_[:, :end].transpose(1, 2)).float()
            g_s = g_p.sub_((g_p * p).sum(-1, keepdim=True)).mul_(p).mul_(ctx.scale).to(q.dtype)
            g_q[:, :, start:end] = torch.bmm(g_s, k_[:, :end]).unflatten(1, (-1, end - start))
            g_k[:, :end] += torch.bmm(g_s.transpose(1, 2), q_b)
        return g_q.view(q.shape), g_k.to(k.dtype).view(k.shape), g_v.to(v.dtype).view(v.shape), None
