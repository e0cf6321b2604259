"""Which numbers a model computes in, and on which device."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zhsenti.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
SCORING_PRECISIONS = (*PRECISIONS, "int8")  # int8 is for scoring on CPUs alone
PRECISION_HELP = "计算精度（默认与训练时相同；int8 在 x86 CPU 上更快，个别结果会变）"


@dataclass(frozen=True)
class Precision:
    """What a model computes in.

    Attributes:
        name: As in PRECISIONS; with ``int8`` linear layers multiply in int8 and all else is in ``dtype``.
        dtype: Of the frozen weights.
    """

    name: str
    dtype: torch.dtype

    @property
    def autocast(self) -> bool:
        """Whether float32 LoRA weights compute in ``dtype``."""
        return self.dtype.itemsize < 4  # int8 has float32 around it where bfloat16 is slow


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def multiplies_bf16() -> bool:
    """Whether the hardware multiplies bfloat16 itself: GPUs from Ampere on, CPUs with AVX-512 bf16 or AMX."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def slow_precision(precision: Precision) -> str:
    """A Chinese sentence where the hardware can only imitate ``precision``, and what to do; "" where it has it."""
    if precision.name != "bf16" or multiplies_bf16():
        return ""
    if pick_device().type == "cuda":
        return "这块显卡没有 bf16 运算（Ampere 起才有），只能模拟，慢得多：改用 --precision fp16 或 auto。"
    if platform.machine().lower() not in ("x86_64", "amd64"):  # others are not asked
        return ""
    return "这个 CPU 没有 bf16 乘法，只能模拟，多半比 fp32 慢：内存够就用 --precision fp32 或 auto。"


def pick_precision(name: str) -> Precision:
    """``auto``: bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 on a CPU.

    Raises:
        ConfigError: fp16 on a CPU (far slower than fp32 there), or int8 on a GPU (not built).
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if name == "auto":
        name = "bf16" if multiplies_bf16() else "fp16" if on_gpu else "fp32"
    if name == "fp16" and not on_gpu:
        raise ConfigError("CPU 上不能用 fp16", todo="改用 --precision bf16、fp32 或 auto。")
    if name == "int8":
        if on_gpu or not torch.backends.mkldnn.is_available() or platform.machine().lower() not in ("x86_64", "amd64"):
            raise ConfigError("这台机器上没有 int8 打分", expected="x86 CPU", todo="改用 --precision auto。")
        return Precision(name, pick_precision("auto").dtype)
    return Precision(name, {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name])
