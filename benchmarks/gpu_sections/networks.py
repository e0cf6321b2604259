"""Networks with random weights, drawn on the device itself: the same ones in every precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from gpu_sections.sizes import Size
from zhsenti.methods.base import Method, Scorer
from zhsenti.models.backbone import LoraOptions, add_lora

RANK = 8
KINDS = ("dense", "nf4", "nf4_unpacked")


def random_network(size: Size, dtype: torch.dtype, device: torch.device, kind: str = "dense") -> Any:
    """A frozen transformers model, made weight by weight, so that no more is ever held than it needs itself.

    Args:
        size: Its shape.
        dtype: Of its weights. They are rounded to bfloat16 first, so every dtype holds the same numbers.
        device: Where.
        kind: ``dense``; ``nf4``, linear layers in NF4 with double quantisation, as the product's QLoRA has them; or
            ``nf4_unpacked``, dense layers with the weights that NF4 stands for.
    """
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(size.configuration(), dtype=dtype)
    decoder = network.model
    generator = torch.Generator(device).manual_seed(17)

    def draw(shape: torch.Size, spread: float, mean: float = 0.0) -> Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(mean, spread, generator=generator)

    for name, module in list(network.named_modules()):
        if module is network.lm_head and size.tied:
            continue
        for key, old in list(module.named_parameters(recurse=False)):
            is_norm = old.ndim == 1 and key == "weight"
            spread = 0.1 if old.ndim == 1 else size.spread  # biases and norms too, or a mistake with them is not seen
            drawn = draw(old.shape, spread, 1.0 if is_norm else 0.0)
            if kind != "dense" and isinstance(module, nn.Linear) and key == "weight" and module is not network.lm_head:
                _put(network, name, drawn, dtype, kind)
            else:
                # A Linear4bit has taken its layer's place when the bias comes.
                place = network.get_submodule(name)
                setattr(place, key, nn.Parameter(drawn.to(dtype), requires_grad=False))
    if size.tied:
        network.lm_head.weight = decoder.embed_tokens.weight
    decoder.rotary_emb = type(decoder.rotary_emb)(config=network.config).to(device)
    network.is_loaded_in_4bit = kind == "nf4"  # peft asks
    if not hasattr(network, "activation_checkpointing_enable"):  # transformers 5.17 knows only the older name
        network.activation_checkpointing_enable = network.gradient_checkpointing_enable
    return network.requires_grad_(False)


def _put(network: Any, name: str, weight: Tensor, dtype: torch.dtype, kind: str) -> None:
    """Put ``weight`` into the linear layer ``name``, in 4 bits or as these unpack."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from bitsandbytes.nn import Linear4bit, Params4bit

    old = network.get_submodule(name)
    if kind == "nf4_unpacked":
        packed, state = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
        old.weight = nn.Parameter(dequantize_4bit(packed, state).to(dtype), requires_grad=False)
        return
    with torch.device("meta"):
        layer = Linear4bit(old.in_features, old.out_features, old.bias is not None, compute_dtype=dtype,
                           compress_statistics=True, quant_type="nf4")  # fmt: skip
    four_bits = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer)
    layer.weight = four_bits.to(weight.device)
    if hasattr(layer, "support_avx512bf16_for_cpu"):
        layer.support_avx512bf16_for_cpu = False  # as models/backbone.py has it, and why
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


def scorer_of(network: Any, method: Method) -> Scorer:
    """``network`` with a LoRA of rank 8 on all linear layers, as the product puts it on; B is not zero, for a LoRA
    that adds nothing hides mistakes."""
    lora = LoraOptions(RANK, 2 * RANK, 0.0, "all-linear")
    scorer = Scorer(method, add_lora(network, lora, head=method.head, task_type=method.peft_task))
    generator = torch.Generator(next(network.parameters()).device).manual_seed(18)
    for _, parameter in trained(scorer):
        drawn = torch.randn(parameter.shape, generator=generator, device=parameter.device)
        parameter.data.copy_(drawn * 0.02)
    return scorer


def trained(scorer: Scorer) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that training changes."""
    return [(name, p) for name, p in scorer.named_parameters() if p.requires_grad]


def keep_weights(scorer: Scorer) -> Callable[[], None]:
    """A function that gives the trained parameters the values that they have now."""
    kept = [p.detach().clone() for _, p in trained(scorer)]

    def put_back() -> None:
        with torch.no_grad():
            for (_, parameter), value in zip(trained(scorer), kept, strict=True):
                parameter.copy_(value)

    return put_back


def bitsandbytes_fault() -> str:
    """Why there is no NF4 here (Chinese), or an empty string."""
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # a build for another CUDA raises whatever it likes
        return f"没有可用的 bitsandbytes：{(str(error).strip() or type(error).__name__).splitlines()[0][:120]}"
    return ""
