"""Qwen2 and Qwen3 for scoring, straight from safetensors: only the modules that ``decode`` reads.

Importing transformers' model classes and peft takes longer than all else at start-up (docs/results/startup.json), and
scoring needs neither. Training, 4-bit bases and merging go through them.

Adapters on one base share its weights: a second model takes the very same frozen Parameters while a first one lives.

Shapes: N tokens, d head size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zhsenti.core.errors import ModelError
from zhsenti.models.adapter_check import SavedAdapter, load_adapter
from zhsenti.models.decoder import is_known
from zhsenti.models.failures import is_machines_fault
from zhsenti.models.precision import Precision, pick_device


def load_scoring_model(
    folder: Path,
    precision: Precision,
    *,
    adapter: SavedAdapter | None = None,
    head: tuple[str, Callable[[int], nn.Module]] | None = None,
) -> ScoringModel | None:
    """The base in ``folder`` with its saved LoRA weights, on the machine's device; None for kinds not known here.

    Args:
        folder: The base.
        precision: Type of its weights.
        adapter: The saved LoRA, and with it the weights of the head.
        head: Name of a module on top, and what makes one for hidden states of a width.

    Raises:
        ModelError: A tensor is missing or of another shape, or the adapter does not fit.
        RuntimeError: Memory ran out, or the GPU is lost (``naming_load_failures`` puts it in words).
    """
    config = _read_config(folder / "config.json")
    if config is None:
        return None
    model = ScoringModel(config, _Files(folder), precision.dtype)
    name = None
    if head:
        name, make = head
        setattr(model, name, make(config.hidden_size))
    if adapter:
        model.add_lora(adapter, name)
    return model.requires_grad_(False).to(pick_device())


class ScoringModel(nn.Module):
    """``model`` as ``decode`` reads it, with ``lm_head`` and whatever head a method puts on it."""

    def __init__(self, config: SimpleNamespace, files: _Files, dtype: torch.dtype) -> None:
        super().__init__()
        c, D, d = config, config.hidden_size, config.head_dim

        def weight(name: str, *shape: int) -> nn.Parameter:
            return _shared(files, name, shape, dtype)

        def linear(name: str, n_in: int, n_out: int, *, bias: bool = False) -> nn.Linear:
            layer = nn.Linear(n_in, n_out, bias=bias, device="meta")
            layer.weight = weight(f"{name}.weight", n_out, n_in)
            if bias:
                layer.bias = weight(f"{name}.bias", n_out)
            return layer

        def norm(name: str, size: int) -> nn.Module:
            return _module(weight=weight(f"{name}.weight", size), variance_epsilon=c.rms_norm_eps)

        def layer(name: str) -> nn.Module:
            attention, mlp, M = f"{name}.self_attn", f"{name}.mlp", c.intermediate_size
            Q, K = c.num_attention_heads * d, c.num_key_value_heads * d
            norms = {f"{x}_norm": norm(f"{attention}.{x}_norm", d) for x in "qk"} if c.model_type == "qwen3" else {}
            return _module(
                input_layernorm=norm(f"{name}.input_layernorm", D),
                post_attention_layernorm=norm(f"{name}.post_attention_layernorm", D),
                self_attn=_module(
                    head_dim=d,
                    scaling=d**-0.5,
                    q_proj=linear(f"{attention}.q_proj", D, Q, bias=c.attention_bias),
                    k_proj=linear(f"{attention}.k_proj", D, K, bias=c.attention_bias),
                    v_proj=linear(f"{attention}.v_proj", D, K, bias=c.attention_bias),
                    o_proj=linear(f"{attention}.o_proj", Q, D, bias=c.attention_bias and c.model_type == "qwen3"),
                    **norms,
                ),
                mlp=_module(
                    gate_proj=linear(f"{mlp}.gate_proj", D, M),
                    up_proj=linear(f"{mlp}.up_proj", D, M),
                    down_proj=linear(f"{mlp}.down_proj", M, D),
                ),
            )

        embedding = weight("model.embed_tokens.weight", c.vocab_size, D)
        self.model = _module(
            config=c,
            embed_tokens=nn.Embedding(c.vocab_size, D, _weight=embedding),
            rotary_emb=_Rotary(c.rope_theta, d),
            layers=nn.ModuleList(layer(f"model.layers.{n}") for n in range(c.num_hidden_layers)),
            norm=norm("model.norm", D),
        )
        self.lm_head = _module(weight=embedding if c.tie_word_embeddings else weight("lm_head.weight", c.vocab_size, D))

    def add_lora(self, adapter: SavedAdapter, head: str | None) -> None:
        """Put the saved LoRA on the layers, and its weights into the module ``head``.

        Raises:
            ModelError: It does not fit this base.
        """
        lora, tensors = adapter.lora, load_adapter(self, adapter, head)
        for name, tensor in tensors.items():
            path, _, kind = name.removesuffix(".weight").rpartition(".")
            if kind == "lora_A":
                base: Any = self.get_submodule(path)
                parent, _, last = path.rpartition(".")
                layer = _LoraLayer(base, tensor, tensors[f"{path}.lora_B.weight"], lora.alpha / lora.r)
                setattr(self.get_submodule(parent), last, layer)
            elif kind != "lora_B":
                self.get_parameter(name).data = tensor.float()

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        layers = [module for module in self.modules() if isinstance(module, _LoraLayer)]
        try:
            for layer in layers:
                layer.disable_adapters = True
            yield
        finally:
            for layer in layers:
                layer.disable_adapters = False


class _LoraLayer(nn.Module):
    """What ``decoder.linear`` reads of a peft LoRA layer; A (r, in) and B (out, r) float32."""

    def __init__(self, base: nn.Linear, A: Tensor, B: Tensor, scale: float) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A, self.lora_B = (nn.ModuleDict({"default": _module(weight=nn.Parameter(x.float()))}) for x in (A, B))
        self.scaling, self.active_adapters = {"default": scale}, ["default"]
        self.merged = self.disable_adapters = False


class _Rotary(nn.Module):
    """cos and sin (1, N, d) of positions (1, N), as transformers' default rotary embedding gives them."""

    inv_freq: Tensor

    def __init__(self, theta: float, d: int) -> None:
        super().__init__()
        exponents = torch.arange(0, d, 2, dtype=torch.int64).float() / d
        self.register_buffer("inv_freq", 1.0 / theta**exponents, persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self.inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


_SHARED: WeakValueDictionary[Any, nn.Parameter] = WeakValueDictionary()


def _shared(files: _Files, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> nn.Parameter:
    """A frozen weight on the machine's device: the one that another model of the same files already holds, or read.

    Nobody writes to it: LoRA, heads and int8 copies are each model's own.
    """
    key = (files.identity, name, shape, dtype, pick_device())
    if (found := _SHARED.get(key)) is None:
        found = nn.Parameter(files.get(name, shape).to(pick_device(), dtype), requires_grad=False)
        _SHARED[key] = found
    return found


class _Files:
    """Tensors by name from one safetensors file or the shards of an index; read when asked for.

    ``identity`` is another one as soon as a file was replaced or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, name = folder, "model.safetensors"
        index = folder / f"{name}.index.json"
        shards = sorted(set(_read_json(index)["weight_map"].values())) if index.is_file() else [name]
        try:
            opened = [safe_open(folder / shard, "pt") for shard in shards]
            self.names = {key: file for file in opened for key in file.keys()}  # noqa: SIM118
            seen = [(folder / shard).stat() for shard in shards]
            self.identity = (folder.resolve(), *((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in seen))
        except (OSError, SafetensorError) as error:
            if is_machines_fault(error):
                raise
            raise ModelError(f"读不了 {folder} 的权重", found=str(error)[:200], todo="换一个完整的文件夹。") from error

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor called ``name``.

        Raises:
            ModelError: It is missing, or has another shape.
        """
        found = self.names[name].get_slice(name).get_shape() if name in self.names else "没有这个张量"
        if found != list(shape):
            raise ModelError(
                f"{self.folder} 里的权重与配置对不上：{name}",
                expected=str(list(shape)),
                found=str(found),
                todo="换一个完整的文件夹；适配器要用训练时的那个基座（--model_name）。",
            )
        return self.names[name].get_tensor(name)


def _read_config(path: Path) -> SimpleNamespace | None:
    """config.json, old or new style, with what transformers fills in; None when ``decode`` does not know the kind."""
    raw = _read_json(path)
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    layers = raw.get("layer_types") or ["full_attention"] * raw["num_hidden_layers"]
    plain = rope.get("rope_type", rope.get("type", "default")) == "default" and not raw.get("use_sliding_window")
    config = SimpleNamespace(
        **{
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "attention_bias": raw.get("model_type") == "qwen2",
            **raw,
            "head_dim": raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
            "layer_types": layers,
            "rope_theta": rope.get("rope_theta") or raw.get("rope_theta"),
        }
    )
    return config if plain and config.rope_theta and is_known(SimpleNamespace(config=config)) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"读不了 {path}", found=str(error)[:200], todo="换一个完整的文件夹。") from error


def _module(**members: Any) -> nn.Module:
    module = nn.Module()
    for name, member in members.items():
        setattr(module, name, member)
    return module
