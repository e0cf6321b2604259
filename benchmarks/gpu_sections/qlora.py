"""Does it fit? What the planner says of small cards, and what training by its word really takes.

On a GPU each plan runs under a hard limit: ``set_per_process_memory_fraction`` leaves the allocator what a card of that
size would leave it beside this process's context, and that is the planner's budget too, as it is when the product asks
such a card what is free. Networks are made within the limit. Measured is the allocator's peak, as the product reports.

On a CPU there is no such limit. What is measured there is the peak of the bytes of all tensors alive at once, without
Python, torch and the allocator, so it may not be held against the estimate, which counts these; the budgets are the
planner's own figures for its roomiest and its smallest way, and one that nothing fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from textbook import Watch, sentiment_trainer

from gpu_sections.measure import Peak, bytes_of, free_memory_of_this_process
from gpu_sections.networks import RANK, bitsandbytes_fault, random_network, scorer_of
from gpu_sections.options import Options, say
from gpu_sections.reviews import items_of, stand_in_method
from zhsenti.core.errors import ZhsentiError
from zhsenti.training.memory import Shape
from zhsenti.training.plan import Fit, fit_memory, smallest_fit
from zhsenti.training.plan import Options as PlanOptions

# Shape, card in GB, whether 4 bits are asked for (None: only where needed), seconds it may take.
CARDS = (("1.5b", 4.0, True, 12), ("1.5b", 8.0, None, 10), ("1.5b", 12.0, None, 10), ("7b", 8.0, None, 20),
         ("7b", 12.0, None, 20))  # fmt: skip
UPDATES, REVIEWS = 3, 16


def qlora(device: torch.device, options: Options) -> dict[str, Any]:
    """Estimate against measured peak of every plan."""
    fault = bitsandbytes_fault()
    options.check(not fault or device.type != "cuda", f"QLoRA 没有测：{fault}")
    cases = CARDS if device.type == "cuda" and not options.smoke else tuple(_tiny_cards(device, options))
    found = []
    for name, card, four_bits, seconds in cases:
        if options.allows(f"{name}，{card:.4g} GB 的方案", seconds):
            left = free_memory_of_this_process(device)
            case = _Case(name, card, device, options)
            result = options.attempt(case.title, lambda case=case, asked=four_bits: case.run(asked, fault))
            found.append({**result, "held_before_gb": left / 1e9})  # by what earlier ones have not given back
    if device.type == "cuda":
        worst = [abs(case["estimate_over_measured"] - 1) for case in found if "estimate_over_measured" in case]
        if worst:
            options.figures["memory_worst_error"] = max(worst)
            options.target("memory_worst_error", 0.15, at_most=True)
    options.figures["plans_trained"] = float(sum(case.get("trained", False) for case in found))
    options.figures["plans_refused"] = float(sum(not case.get("fits", True) for case in found))
    measured = "分配器的峰值" if device.type == "cuda" else "同时活着的张量字节数的峰值（不含运行时，不能与估算相比）"
    return {"measured_is": measured, "reviews": REVIEWS, "updates": UPDATES, "cases": found}


def _tiny_cards(device: torch.device, options: Options) -> Iterator[tuple[str, float, bool | None, float]]:
    """Budgets around what the planner asks for the tiny shapes."""
    shape = Shape.of(options.scale.sizes["1.5b"].configuration())
    asked = _asked(device, options, None)
    roomy, least = fit_memory(shape, 1e15, **asked), smallest_fit(shape, **asked)
    assert roomy is not None
    context = _context(device)
    yield "1.5b", (roomy.memory * 1.001 + context) / 1e9, None, 1
    yield "1.5b", (least.memory * 1.00001 + context) / 1e9, True, 1
    yield "7b", (least.memory * 0.5 + context) / 1e9, None, 1


def _asked(device: torch.device, options: Options, four_bits: bool | None) -> PlanOptions:
    return {
        "longest": options.scale.max_length,
        "update": REVIEWS * options.scale.max_length,
        "device": device.type,
        "weight_bytes": options.precision.dtype.itemsize,
        "lora_r": RANK,
        "checkpointing": False,
        "qlora": four_bits,
    }


class _Case:
    """One shape on one card."""

    def __init__(self, name: str, card: float, device: torch.device, options: Options) -> None:
        self.name, self.card, self.device, self.options = name, card, device, options
        self.size = options.scale.sizes[name]
        self.title = f"{name}，{card:.4g} GB"

    def run(self, four_bits: bool | None, fault: str) -> dict[str, Any]:
        """The plan and, if one fits, three updates of 16 reviews of the greatest length and an evaluation.

        Args:
            four_bits: What the planner is asked for.
            fault: Why NF4 cannot be had, if it cannot.
        """
        shape, asked = Shape.of(self.size.configuration()), _asked(self.device, self.options, four_bits)
        context = _context(self.device)
        budget = self.card * 1e9 - context
        fit = fit_memory(shape, budget, **asked)
        least = smallest_fit(shape, **asked)
        case = {
            "shape": self.name,
            "card_gb": self.card,
            "context_gb": context / 1e9,
            "longest": asked["longest"],
            "smallest_gb": least.memory / 1e9,
            "fits": fit is not None,
            "trained": False,
        }
        if fit is None:
            say(f"{self.title}：规划器事先说放不下，至少要 {least.memory / 1e9:.2f} GB")
            return case
        case |= {"plan": asdict(fit), "estimated_gb": fit.memory / 1e9}
        if fit.qlora and fault:
            return {**case, "not_run": fault}
        case |= self._train(fit, budget)
        self.options.check(case["trained"], f"{self.title}：规划器说放得下，却没有训练成：{case.get('error')}")
        self.options.figures[f"plan_{self.name}_{self.card:.4g}gb_estimated_gb"] = fit.memory / 1e9
        if case["trained"]:
            self.options.figures[f"plan_{self.name}_{self.card:.4g}gb_measured_gb"] = case["measured_gb"]
            how = f"每次至多 {fit.micro_tokens} token{'，4 比特' * fit.qlora}{'，重算' * fit.checkpointing}"
            how += "" if case["kept_to_the_plan"] else "；中途内存不足，减到更小才训练成"
            say(f"{self.title}：估 {case['estimated_gb']:.2f} GB，实测 {case['measured_gb']:.3g} GB（{how}）")
        return case

    def _train(self, fit: Fit, budget: float) -> dict[str, Any]:
        method = stand_in_method(self.size.vocab, self.options.scale.max_length)
        longest = self.options.scale.max_length
        items = items_of(method, [longest] * UPDATES * REVIEWS)
        dev_rows = items_of(method, [longest] * (fit.micro_tokens // longest + 1))  # the largest pass of an evaluation
        updates = [list(range(n, n + REVIEWS)) for n in range(0, len(items), REVIEWS)]
        precision, watch = self.options.precision, Watch()
        with _limited(budget, self.device):
            try:
                kind = "nf4" if fit.qlora else "dense"
                scorer = scorer_of(random_network(self.size, precision.dtype, self.device, kind), method)
                if fit.checkpointing:
                    scorer.enable_checkpointing()
                with Peak(self.device, bytes_of(scorer)) as memory:
                    trainer = sentiment_trainer(
                        scorer, items, updates, precision, micro_tokens=fit.micro_tokens, eval_dataset=dev_rows,
                        callbacks=[watch],
                    )  # fmt: skip
                    trainer.train()
                    trainer.evaluate()
            except (torch.OutOfMemoryError, ZhsentiError) as error:
                return {"error": str(error)[:300]}
        measured = memory.peak / 1e9
        found = {
            "trained": True,
            "measured_gb": measured,
            "kept_to_the_plan": (trainer.micro_tokens, scorer.checkpointing) == (fit.micro_tokens, fit.checkpointing),
            "micro_tokens_at_the_end": trainer.micro_tokens,
            "seconds_an_update": watch.seconds / UPDATES,
            "losses": watch.losses,
        }
        if self.device.type == "cuda":
            found["reserved_gb"] = torch.cuda.max_memory_reserved(self.device) / 1e9
            found["estimate_over_measured"] = fit.memory / 1e9 / measured
        return found


def _context(device: torch.device) -> float:
    """Bytes of the card that are in use beside the allocator's."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return float(total - free - torch.cuda.memory_reserved(device))


@contextmanager
def _limited(budget: float, device: torch.device) -> Iterator[None]:
    """Inside, the allocator of this process hands out no more than ``budget`` bytes, where it can be told so."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(max(0.001, budget / torch.cuda.mem_get_info(device)[1]), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
