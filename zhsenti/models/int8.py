"""Frozen linear layers in int8 for scoring on x86 CPUs: int8 weights per output, int8 inputs per token, int32 sums.

W8A8 dynamic quantisation (Dettmers et al. 2022, arXiv:2208.07339, without its outlier columns):
y = s_x s_w (round(x / s_x) round(W / s_w)ᵀ) + b with s = max|row| / 127. The product is oneDNN's, which torch carries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Int8Linear(nn.Module):
    """nn.Linear's scores from an int8 copy of its weight (out, in). For inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        weight = linear.weight.detach().float()
        self.scales = weight.abs().amax(dim=1).clamp_(min=1e-12).div_(127)
        packed = (weight / self.scales[:, None]).round_().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(packed, None)
        self.zero_points = torch.zeros(len(weight), dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in) -> (N, out) in x's type."""
        scales = x.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).div_(127)
        # oneDNN multiplies unsigned inputs: shift by 128, which it takes off again as the zero point.
        shifted = (x / scales).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
        y = torch.ops.onednn.qlinear_pointwise(
            shifted, 1.0, 128, self.packed, self.scales, self.zero_points, None, 1.0, 0, x.dtype, "none", [], ""
        )
        y.mul_(scales)
        return y if self.bias is None else y.add_(self.bias)


def quantise(decoder: nn.Module) -> None:
    """Turn every frozen linear layer of ``decoder`` into int8, in place; LoRA weights stay as they are."""
    for module in list(decoder.modules()):
        for name, child in list(module.named_children()):
            # peft keeps LoRA's A and B in ModuleDicts, under the adapter's name.
            if type(child) is nn.Linear and not isinstance(module, nn.ModuleDict):
                setattr(module, name, Int8Linear(child))
