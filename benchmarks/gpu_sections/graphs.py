"""What would CUDA graphs and torch.compile give? Each is tried; one that does not work says why, and is no failure.

A graph replays kernels that were recorded once, for one shape: host time falls away. So eager time over replay time is
the most that anything against host overhead can bring for that work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gpu_sections.measure import seconds_of
from gpu_sections.options import Options, say
from zhsenti.core.errors import first_line
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import unwrap
from zhsenti.models.decoder import decode

ROWS, TOKENS = 16, 96


def graphs(scorer: Scorer, items: list[Encoded], device: torch.device, options: Options) -> dict[str, Any]:
    """Seconds of each piece of work as it is, replayed from a graph, and compiled."""
    network: Any = unwrap(scorer.network)
    scale, dtype = options.scale, options.precision.dtype
    rows = min(ROWS, scale.compared)
    trie = scorer.method.collate(items)["trie"].to(device)
    ids = torch.randint(20, network.config.vocab_size, (rows, min(TOKENS, scale.max_length)), device=device)
    scorer.eval()

    @torch.inference_mode()
    def ours() -> Any:
        return decode(network.model, trie)

    @torch.inference_mode()
    def theirs() -> Any:
        with torch.autocast(device.type, dtype, enabled=options.precision.autocast):
            return network.model(input_ids=ids, use_cache=False).last_hidden_state

    def update() -> Any:
        with torch.enable_grad():
            hidden = decode(network.model, trie)
            hidden.float().square().mean().backward()

    found: dict[str, Any] = {}
    for name, work in (("decode", ours), ("transformers_forward", theirs), ("decode_and_backward", update)):
        if not options.allows(f"CUDA 图：{name}", 5):
            continue
        eager = seconds_of(work, device, scale.repeats)
        options.figures[f"{name}_eager_ms"] = eager * 1e3
        found[name] = {"eager_ms": eager * 1e3}
        if device.type == "cuda":
            found[name]["graph"] = _attempt(lambda work=work: _replayed(work, device, scale.repeats))
            _note(f"{name}_graph_ms", found[name]["graph"], options, f"{name} 的 CUDA 图", eager)
        else:
            found[name]["graph"] = {"not_run": "CPU 上没有 CUDA 图"}
        scorer.zero_grad()
    if options.allows("torch.compile 一层", 40):
        found["compiled_layer"] = _attempt(lambda: _compiled(network, device, options))
        _note("compiled_layer_ms", found["compiled_layer"], options, "torch.compile 一层",
              found["compiled_layer"].get("eager_ms", 0) / 1e3)  # fmt: skip
    return found


def _attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` finds, or why it could not: whatever it raises is the answer."""
    try:
        return work()
    except Exception as error:
        return {"failed": f"{type(error).__name__}：{first_line(error)}"}


def _note(figure: str, result: dict[str, Any], options: Options, title: str, eager: float) -> None:
    if "ms" in result:
        options.figures[figure] = result["ms"]
        say(f"{title}：{result['ms']:.2f} 毫秒，原来 {eager * 1e3:.2f} 毫秒")
    else:
        say(f"{title}：没有做成（{result.get('failed') or result.get('not_run')}）")


def _replayed(work: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, Any]:
    """Record ``work`` and replay it."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()
    milliseconds = seconds_of(graph.replay, device, repeats) * 1e3
    del kept
    return {"ms": milliseconds}


def _compiled(network: Any, device: torch.device, options: Options) -> dict[str, Any]:
    """One of transformers' decoder layers, forward alone; on a CPU only traced, for compiling takes minutes there."""
    decoder, scale = network.model, options.scale
    rows, tokens = min(ROWS, scale.compared), min(TOKENS, scale.max_length)
    dtype = options.precision.dtype
    states = torch.randn(rows, tokens, network.config.hidden_size, device=device).to(dtype)
    positions = torch.arange(tokens, device=device)[None]
    angles = decoder.rotary_emb(states, positions)
    layer = decoder.layers[0]
    backend = "inductor" if device.type == "cuda" and not options.smoke else "eager"
    compiled = torch.compile(layer, backend=backend, dynamic=False)

    def run(module: Any) -> Callable[[], Any]:
        @torch.no_grad()
        def call() -> Any:
            with torch.autocast(device.type, dtype, enabled=options.precision.autocast):
                return module(states, attention_mask=None, position_embeddings=angles, position_ids=positions)

        return call

    eager = seconds_of(run(layer), device, scale.repeats) * 1e3
    return {"backend": backend, "eager_ms": eager, "ms": seconds_of(run(compiled), device, scale.repeats) * 1e3}
