"""How large do numbers get inside a base? What float16 cannot hold (65,504) would be infinite on GPUs before Ampere.

    python benchmarks/activations.py --dataset ChnSentiCorp --limit 64 --json docs/results/activations.json

Reviews go through transformers' own model in float32, one at a time: the longest and a sample. Watched are each layer's
output (the residual stream) and its MLP's inner product, which is the largest single step.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from common import arguments, load_splits, report

from zhsenti.core.errors import exit_on_error
from zhsenti.data.split import sample
from zhsenti.methods import get_method
from zhsenti.models.backbone import Tokenizer, load_backbone
from zhsenti.models.precision import pick_precision
from zhsenti.models.sources import resolve_model
from zhsenti.task import SentimentTask

LARGEST = torch.finfo(torch.float16).max


def watch(model: Any) -> dict[str, float]:
    """Have every layer note the largest |x| that it sees; returns the notes, which fill as the model runs."""
    seen: dict[str, float] = {}

    def note(name: str, x: torch.Tensor) -> None:
        seen[name] = max(seen.get(name, 0.0), float(x.detach().abs().max()))

    for number, layer in enumerate(model.model.layers):

        def after_layer(_: Any, __: Any, out: Any, number: int = number) -> None:
            note(f"residual_{number}", out[0] if isinstance(out, tuple) else out)

        def before_down(_: Any, inputs: Any, number: int = number) -> None:
            note(f"mlp_{number}", inputs[0])

        layer.register_forward_hook(after_layer)
        layer.mlp.down_proj.register_forward_pre_hook(before_down)
    return seen


def main(argv: list[str] | None = None) -> int:
    args = arguments("数值有多大：float16 装得下吗", 64, argv)
    splits = load_splits(args.dataset)
    longest = sorted(splits.test, key=lambda row: -len(row.text))[:4]
    rows = [*longest, *sample(splits.test, args.limit, 42)]
    folder = resolve_model(args.model).path
    method = get_method("label_scoring")(SentimentTask(), Tokenizer(folder))
    model = load_backbone(folder, "AutoModelForCausalLM", pick_precision("fp32"))
    seen = watch(model)
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([method.encode(row.text).ids]), use_cache=False)
    residual = max(value for name, value in seen.items() if name.startswith("residual"))
    inner = max(value for name, value in seen.items() if name.startswith("mlp"))
    figures = {
        "largest_residual": residual,
        "largest_mlp_input": inner,
        "share_of_float16": max(residual, inner) / LARGEST,
    }
    report("activations", args, figures, rows, {"layers": seen})
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_error(main, sys.argv[1:]))
