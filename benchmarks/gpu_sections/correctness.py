"""Is it right? decode() against transformers and peft themselves, on the same device with the same weights.

Exact is transformers in float32. In float32 ours must agree up to rounding; in bfloat16 and with NF4 ours may be no
further from exact than 1.5 times what transformers' own bfloat16 is: that is the yardstick of rounding.
"""

from __future__ import annotations

from typing import Any

import torch

from gpu_sections.measure import free_memory_of_this_process
from gpu_sections.networks import bitsandbytes_fault, random_network, scorer_of
from gpu_sections.options import Options, say
from gpu_sections.outcomes import Outcome, loss_curve, product_outcome, reference_outcome
from gpu_sections.reviews import items_of, stand_in_method
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.precision import Precision

EXACT = Precision("fp32", torch.float32)
HALF = Precision("bf16", torch.bfloat16)
UPDATE = 16
FLOAT32_LIMIT, ROUNDING_LIMIT = 1e-3, 1.5
CURVE_LIMITS = {"float32": 2e-3, "bf16": 0.02, "nf4": 0.02}  # and at most twice the distance that rounding makes

MEASURES = ("hidden", "log_probs", "gradients")

Batches = dict[str, list[Encoded]]


def correctness(device: torch.device, options: Options) -> dict[str, Any]:
    """Hidden states, log-probabilities, gradients and loss curves in float32, bfloat16 and on an NF4 base."""
    scale = options.scale
    size = scale.sizes["1.5b"]
    method = stand_in_method(size.vocab, scale.max_length)
    items = items_of(method, options.lengths[: max(scale.compared, UPDATE * scale.curve)])
    batches = {"log_probs": items[: scale.compared], "gradients": items[: scale.differentiated]}
    curve = items[: UPDATE * scale.curve]
    details: dict[str, Any] = {
        "shape": "1.5b",
        "layers": size.layers,
        "reviews": {k: len(v) for k, v in batches.items()},
    }

    def scorer(kind: str, dtype: torch.dtype) -> Scorer:
        return scorer_of(random_network(size, dtype, device, kind), method)

    def float32() -> dict[str, Any]:
        exact = scorer("dense", torch.float32)
        truth.update(_outcomes(exact, batches, EXACT, "reference"))
        return {
            **_compare_float32(options, exact, batches, truth),
            "curve": _curves(options, exact, curve, EXACT, "float32"),
        }

    def rounded(kind: str, name: str) -> dict[str, Any]:
        return _compare_rounded(options, scorer(kind, torch.bfloat16), batches, truth, name, curve)

    def four_bits() -> dict[str, Any]:
        truth.update(_outcomes(scorer("nf4_unpacked", torch.float32), batches, EXACT, "reference"))
        free_memory_of_this_process(device)
        return rounded("nf4", "nf4")

    truth: dict[str, Outcome] = {}
    details["float32"] = options.attempt("float32 的对照", float32)
    free_memory_of_this_process(device)
    details["bf16"] = options.attempt("bf16 的对照", lambda: rounded("dense", "bf16"))
    free_memory_of_this_process(device)
    fault = bitsandbytes_fault()
    if fault:
        details["nf4"] = {"not_run": fault}
        options.check(device.type != "cuda", f"NF4 没有测：{fault}")
    elif options.allows("NF4 基座的对照", 20):
        details["nf4"] = options.attempt("NF4 的对照", four_bits)
    return details


def _outcomes(scorer: Scorer, batches: Batches, precision: Precision, system: str) -> dict[str, Outcome]:
    """Of every batch; ``system`` is zhsenti, reference (padded on the right) or reference_left."""
    found = {}
    for name, items in batches.items():
        gradients = name == "gradients"
        if system == "zhsenti":
            found[name] = product_outcome(scorer, items, precision, gradients=gradients)
        else:
            left = system == "reference_left"
            found[name] = reference_outcome(scorer, items, precision, gradients=gradients, left=left)
    return found


def _errors(found: dict[str, Outcome], truth: dict[str, Outcome]) -> dict[str, float]:
    """Log-probabilities and hidden states over the larger batch, gradients over the smaller one."""
    gradients = found["gradients"].errors(truth["gradients"])
    return {
        **found["log_probs"].errors(truth["log_probs"]),
        **{name: value for name, value in gradients.items() if name.startswith("gradients")},
    }


def _compare_float32(options: Options, scorer: Scorer, batches: Batches, truth: dict[str, Outcome]) -> dict[str, Any]:
    found = {
        "zhsenti": _errors(_outcomes(scorer, batches, EXACT, "zhsenti"), truth),
        "reference_left": _errors(_outcomes(scorer, batches, EXACT, "reference_left"), truth),
    }
    for name, value in found["zhsenti"].items():
        if name.endswith("_relative"):
            options.figures[f"float32_{name}"] = value
            options.check(value < FLOAT32_LIMIT, f"float32 的 {name} 差 {value:.2g}，应小于 {FLOAT32_LIMIT}")
    say(f"float32：隐藏状态差 {found['zhsenti']['hidden_relative']:.1e}，梯度差 "
        f"{found['zhsenti']['gradients_relative']:.1e}（相对）")  # fmt: skip
    return found


def _compare_rounded(
    options: Options, scorer: Scorer, batches: Batches, truth: dict[str, Outcome], name: str, curve: list[Encoded]
) -> dict[str, Any]:
    """bfloat16 against ``truth``: ours, and transformers' own with padding on either side."""
    systems = ("zhsenti", "reference", "reference_left")
    found: dict[str, Any] = {s: _errors(_outcomes(scorer, batches, HALF, s), truth) for s in systems}
    for measure in MEASURES:
        ours, theirs = (found[s][f"{measure}_relative"] for s in ("zhsenti", "reference"))
        ratio = options.figures[f"{name}_{measure}_error_ratio"] = ours / max(theirs, 1e-9)
        options.check(
            ratio <= ROUNDING_LIMIT,
            f"{name} 的 {measure} 离 float32 {ours:.2g}，transformers 自己是 {theirs:.2g}：超过 {ROUNDING_LIMIT} 倍",
        )
    ratios = "、".join(
        f"{options.figures[f'{name}_{m}_error_ratio']:.2f}" for m in ("hidden", "log_probs", "gradients")
    )
    say(f"{name}：隐藏状态、概率、梯度的误差是 transformers 自己的 {ratios} 倍")
    found["curve"] = _curves(options, scorer, curve, HALF, name)
    return found


def _curves(options: Options, scorer: Scorer, items: list[Encoded], precision: Precision, name: str) -> dict[str, Any]:
    """Loss curves of ours and of the reference from the same start, and how far apart rounding alone takes two."""
    updates = [list(range(n, n + UPDATE)) for n in range(0, len(items), UPDATE)]
    if not options.allows(f"{name} 的损失曲线", 12):
        return {"not_run": "时间不够"}
    curves = {system: loss_curve(scorer, items, updates, precision, system)
              for system in ("zhsenti", "reference", "whole")}  # fmt: skip

    def apart(a: str, b: str) -> float:
        return max(abs(x - y) for x, y in zip(curves[a], curves[b], strict=True))

    ours, rounding = apart("zhsenti", "reference"), apart("whole", "reference")
    options.figures[f"{name}_loss_distance"], options.figures[f"{name}_loss_distance_rounding"] = ours, rounding
    limit = max(CURVE_LIMITS[name], 2 * rounding)
    options.check(ours <= limit, f"{name} 的损失曲线相差 {ours:.3g}，应不超过 {limit:.3g}")
    say(f"{name}：{len(updates)} 步的损失最多差 {ours:.2g}（仅换批的切法差 {rounding:.2g}）")
    return curves
