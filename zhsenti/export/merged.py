"""A plain transformers folder: LoRA folded into the base; and what the other formats share with it.

The merge is computed in float32 and rounded to the export's type once, so W + (alpha / r) B A loses nothing before.
Shapes: B rows, L tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.methods.base import Method
from zhsenti.models.adapter_check import SavedAdapter
from zhsenti.models.backbone import load_config, quiet_loading
from zhsenti.models.precision import pick_device, pick_precision

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Reloaded:
    """An export as its own runtime reads it from the disk.

    runtime  its name and version;  score  prompt ids of B rows -> class log-probabilities, float32 (B, C).
    """

    runtime: str
    score: Callable[[Sequence[list[int]]], np.ndarray]


def merge(method: Method, base: Path, adapter: SavedAdapter) -> Any:
    """The base with the adapter folded in, as transformers' own model on the CPU, float32."""
    scorer = method.build(base, pick_precision("fp32"), adapter=adapter, merge=True)
    network: Any = scorer.network.cpu().eval()
    network.config.use_cache = load_config(base).use_cache
    return network


def save_tokenizer(base: Path, folder: Path) -> None:
    """The base's tokenizer and chat template; NFC, which zhsenti always applies, and a padding token come along."""
    from tokenizers import Tokenizer
    from tokenizers.normalizers import NFC
    from transformers import AutoTokenizer

    with quiet_loading():
        whole = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        if whole.pad_token is None:
            whole.pad_token = whole.eos_token
        whole.save_pretrained(folder)
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.normalizer = NFC()
    tokenizer.save(path)


def write(method: Method, network: Any, folder: Path, dtype: str) -> None:
    """safetensors, configuration and generation configuration; ``network`` is rounded in place."""
    import torch
    from transformers import AutoTokenizer

    with quiet_loading():
        padding = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).pad_token_id
    # transformers' classifiers find a row's last token by it: with another one than the tokenizer's they read padding.
    network = method.export(network)
    network.config.pad_token_id = network.config.pad_token_id if padding is None else padding
    network.to({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype])
    with quiet_loading():
        network.save_pretrained(folder, safe_serialization=True)


def load(method: Method, folder: Path) -> Reloaded:
    import torch
    import transformers

    (kind,) = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures
    with quiet_loading():
        network = getattr(transformers, kind).from_pretrained(
            folder, dtype="auto", trust_remote_code=False, use_safetensors=True
        )
    runtime = f"transformers {transformers.__version__}"
    if network.dtype == torch.float16 and not torch.cuda.is_available():
        network.float()
        runtime += "（CPU 上按 fp32 计算）"
    return Reloaded(runtime, transformers_score(method, network))


def transformers_score(method: Method, network: Any) -> Callable[[Sequence[list[int]]], np.ndarray]:
    """Score by transformers' own forward pass, on rows padded on the right with a mask."""
    import torch

    device = pick_device()
    network.to(device).eval()

    @torch.inference_mode()
    def score(rows: Sequence[list[int]]) -> np.ndarray:
        sequences = [ids + more for ids in rows for more in method.continuations]
        ids_BL, mask_BL = (torch.from_numpy(x).to(device) for x in pad(sequences, network.config.pad_token_id or 0))
        if "SequenceClassification" in type(network).__name__:  # whose logits are the classes'
            logits_BC = network(input_ids=ids_BL, attention_mask=mask_BL).logits
            return logits_BC.float().log_softmax(-1).cpu().numpy()
        hidden_BLD = network.model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
        ends = [len(ids) for ids in rows for _ in method.continuations]
        reads = [h[end - 1 : len(s)] for h, end, s in zip(hidden_BLD, ends, sequences, strict=True)]
        return method.log_probs(network, torch.cat(reads)).float().cpu().numpy()

    return score


def pad(rows: Sequence[list[int]], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 ids and mask (B, L), padded on the right."""
    import numpy as np

    longest = max(map(len, rows))
    ids = np.array([row + [padding] * (longest - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
    return ids, mask
