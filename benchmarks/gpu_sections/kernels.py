"""What does the device really do? Attention kernels taken, launches, idle time, and what graphs and compiling give.

``launches`` are kernels on a GPU; on a CPU the operators of torch (aten::…) that were called.
``idle_share`` is 1 - (time in kernels) / (wall time of the same work without the profiler).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from textbook import Watch, sentiment_trainer, training_arguments
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from gpu_sections.graphs import graphs
from gpu_sections.measure import seconds_of, synchronize
from gpu_sections.networks import random_network, scorer_of
from gpu_sections.options import Options, say
from gpu_sections.reviews import items_of, stand_in_method
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded

REVIEWS = 16
ATTENTION_SIGNS = ("flash", "fmha", "attention", "sdpa", "mem_eff")
BACKENDS = ("math", "flash", "memory-efficient", "cudnn", "overrideable")  # torch.nn.attention.SDPBackend's numbers


def kernels(device: torch.device, options: Options) -> dict[str, Any]:
    """Of one training micro-batch and one scoring pass of 1.5B, 16 reviews each."""
    scale = options.scale
    size = scale.sizes["1.5b"]
    method = stand_in_method(size.vocab, scale.max_length)
    scorer = scorer_of(random_network(size, options.precision.dtype, device), method)
    items = items_of(method, options.lengths[: REVIEWS * (1 + 2 * scale.turn)])
    work = {
        "training": training_pass(scorer, items[:REVIEWS], options),
        "scoring": scoring_pass(scorer, items, options),
    }
    details: dict[str, Any] = {}
    for name, run in work.items():
        details[name] = options.attempt(
            f"{name} 的核函数", lambda name=name, run=run: _seen(name, run, device, options)
        )
    details["cudnn"] = options.attempt("cuDNN 注意力", lambda: _cudnn(scorer, items, device, options))
    details["graphs"] = options.attempt("CUDA 图与编译", lambda: graphs(scorer, items[:REVIEWS], device, options))
    return details


def _seen(name: str, run: Callable[[], None], device: torch.device, options: Options) -> dict[str, Any]:
    """The attention that one ``run`` calls, and what the profiler sees of it."""
    run()  # what is made once is made
    with _watched_attention() as calls:
        run()
    found: dict[str, Any] = {"attention_calls": calls}
    if options.allows(f"{name} 的剖析", 10):
        found |= _profiled(name, run, device, options)
    return found


def training_pass(scorer: Scorer, items: list[Encoded], options: Options) -> Callable[[], None]:
    """Forward and backward of one micro-batch that is on the device already."""
    device = next(scorer.parameters()).device
    batch, precision = scorer.method.collate(items), options.precision
    trie, labels = batch["trie"].to(device), batch["labels"].to(device)

    def run() -> None:
        scorer.train()
        with torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
            loss = scorer(trie, labels)["loss"]
        loss.backward()
        scorer.zero_grad()

    return run


def scoring_pass(scorer: Scorer, items: list[Encoded], options: Options) -> Callable[[], None]:
    """Forward of one pass that is on the device already."""
    device = next(scorer.parameters()).device
    trie, precision = scorer.method.collate(items[:REVIEWS])["trie"].to(device), options.precision

    def run() -> None:
        scorer.eval()
        with torch.inference_mode(), torch.autocast(device.type, precision.dtype, enabled=precision.autocast):
            scorer(trie)

    return run


@contextmanager
def _watched_attention() -> Iterator[list[dict[str, Any]]]:
    """Inside, every kind of call of torch's attention is noted, with the kernel that torch chooses for it."""
    kept, counts = F.scaled_dot_product_attention, Counter[tuple[Any, ...]]()
    calls: list[dict[str, Any]] = []

    def watched(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
        chosen = torch._fused_sdp_choice(query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                                         enable_gqa=enable_gqa)  # fmt: skip
        kernel = BACKENDS[chosen] if 0 <= chosen < len(BACKENDS) else str(chosen)
        counts[(tuple(query.shape), tuple(key.shape), str(query.dtype), attn_mask is not None, is_causal, enable_gqa,
                query.requires_grad, kernel)] += 1  # fmt: skip
        return kept(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale,
                    enable_gqa=enable_gqa)  # fmt: skip

    F.scaled_dot_product_attention = watched
    try:
        yield calls
    finally:
        F.scaled_dot_product_attention = kept
        names = ("query", "key", "dtype", "mask", "causal", "grouped", "with_gradient", "kernel")
        calls += [{**dict(zip(names, call, strict=True)), "calls": number} for call, number in counts.items()]


def _profiled(name: str, run: Callable[[], None], device: torch.device, options: Options) -> dict[str, Any]:
    """Launches, time in kernels and attention kernels of one ``run``."""
    wall = seconds_of(run, device, options.scale.repeats)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        run()
        synchronize(device)
    on_gpu = device.type == "cuda"
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [e for e in profiler.events() if e.device_type == kind and (on_gpu or e.name.startswith("aten::"))]
    launched = [e for e in events if not e.name.startswith(("Memcpy", "Memset"))]
    counts = Counter(e.name for e in launched)
    found = {
        "seconds": wall,
        "launches": len(launched),
        "copies": len(events) - len(launched),
        "attention_kernels": {n: c for n, c in counts.items() if any(sign in n.lower() for sign in ATTENTION_SIGNS)},
        "most_launched": dict(counts.most_common(12)),
    }
    options.figures[f"{name}_launches"] = float(len(launched))
    options.figures[f"{name}_ms"] = wall * 1e3
    if on_gpu:
        busy = sum(e.time_range.elapsed_us() for e in events) / 1e6
        found["seconds_in_kernels"] = busy
        options.figures[f"{name}_idle_share"] = max(0.0, 1 - busy / wall)
        found["slowest"] = _slowest(events)
    options.check(bool(launched), f"{name}：剖析器没有看到任何核函数")
    idle = f"，空闲 {options.figures[f'{name}_idle_share']:.0%}" if on_gpu else ""
    say(f"{name}：一次 {wall * 1e3:.1f} 毫秒，{len(launched)} 次{'启动' if on_gpu else '算子调用'}{idle}")
    return found


def _slowest(events: list[Any]) -> dict[str, float]:
    """Milliseconds of the twelve kernels that take most."""
    spent = Counter[str]()
    for event in events:
        spent[event.name[:100]] += event.time_range.elapsed_us()
    return {name: us / 1e3 for name, us in spent.most_common(12)}


def _cudnn(scorer: Scorer, items: list[Encoded], device: torch.device, options: Options) -> dict[str, Any]:
    """Ten updates, each of other shapes, with cuDNN's attention allowed and not; a fresh set of shapes for each."""
    if device.type != "cuda":
        return {"not_run": "CPU 上没有 cuDNN 注意力"}
    found: dict[str, Any] = {"allowed_at_first": torch.backends.cuda.cudnn_sdp_enabled()}
    count = options.scale.turn
    half = REVIEWS * count
    for number, (name, allowed) in enumerate((("on", True), ("off", False))):
        if not options.allows(f"cuDNN 注意力（{name}）的十步", 10):
            continue
        part = items[REVIEWS + number * half : REVIEWS + (number + 1) * half]
        updates = [list(range(n, n + REVIEWS)) for n in range(0, len(part), REVIEWS)]
        watch = Watch()
        arguments = training_arguments(len(updates), REVIEWS, 1, options.precision, logging_steps=len(updates))
        torch.backends.cuda.enable_cudnn_sdp(allowed)
        try:
            sentiment_trainer(scorer, part, updates, options.precision, args=arguments, callbacks=[watch]).train()
        finally:
            torch.backends.cuda.enable_cudnn_sdp(found["allowed_at_first"])
        found[name] = watch.seconds
        options.figures[f"cudnn_{name}_seconds_for_{count}_updates"] = watch.seconds
        say(f"cuDNN 注意力{'允许' if allowed else '关掉'}：{count} 步 {watch.seconds:.2f} 秒")
    return found
