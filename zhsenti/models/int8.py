"""Linear layers in int8 for scoring on x86 CPUs: int8 weights per output, int8 inputs per token, int32 sums.

W8A8 dynamic quantisation (Dettmers et al. 2022, arXiv:2208.07339, without its outlier columns):
y = s_x s_w (round(x / s_x) round(W / s_w)ᵀ) + b with s = max|row| / 127, and WEIGHT_STEPS for W. The product is
oneDNN's, which torch carries. LoRA is added to W before the rounding that is made anyway: it costs
neither time nor exactness.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zhsenti.models.autograd import lora_parts

# Without VNNI two products are first summed in 16 bits and saturate there: 2 · 255 · 127 does, 2 · 255 · 63 does not.
WEIGHT_STEPS = 127 if torch.cpu._is_vnni_supported() else 63


class Int8:
    """Turns the linear layers of ``decoder``, LoRA ones included, into int8, in place."""

    def __init__(self, decoder: nn.Module) -> None:
        self.exact = False
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        for path, module in list(decoder.named_modules()):
            # What a LoRA layer is made of goes with it: its A and B, and the layer they are added to.
            part = "lora_" in path or path.endswith("base_layer")
            if not part and (type(module) is nn.Linear or hasattr(module, "lora_A")):
                parent, _, name = path.rpartition(".")
                setattr(decoder.get_submodule(parent), name, Int8Linear(module, self))

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the layers multiply with their original weights."""
        try:
            self.exact = True
            yield
        finally:
            self.exact = False

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, in) as uint8 around 128, and its scales (N, 1); queries, keys and values share one x."""
        last = self._last
        if last is None or last[0] is not x:
            # 126, not 127: a bf16 scale is rounded by up to 1/256, and 127.5 would round to 128 and wrap to -128.
            scales = x.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).div_(126)
            # oneDNN multiplies unsigned inputs: shift by 128, which it takes off again as the zero point.
            shifted = (x / scales).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
            self._last = last = x, shifted, scales
        return last[1:]


class Int8Linear(nn.Module):
    """The outputs of ``original``, a linear layer with or without LoRA, from an int8 copy of its weight (out, in).

    For inference only. ``decoder.linear`` takes ``original`` itself where int8 is off.
    """

    def __init__(self, original: nn.Module, int8: Int8) -> None:
        super().__init__()
        self.original, self.int8 = original, int8
        base, lora_A, lora_B, scale = lora_parts(original)
        weight = base.weight.detach().float()
        if lora_A is not None and lora_B is not None:
            weight = weight + scale * (lora_B.detach() @ lora_A.detach())
        self.bias = base.bias
        self.scales = weight.abs().amax(dim=1).clamp_(min=1e-12).div_(WEIGHT_STEPS)
        packed = (weight / self.scales[:, None]).round_().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(packed, None)
        self.zero_points = torch.zeros(len(weight), dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in) -> (N, out) in x's type."""
        shifted, scales = self.int8.inputs(x)
        y = torch.ops.onednn.qlinear_pointwise(
            shifted, 1.0, 128, self.packed, self.scales, self.zero_points, None, 1.0, 0, x.dtype, "none", [], ""
        )
        y.mul_(scales)
        return y if self.bias is None else y.add_(self.bias)
