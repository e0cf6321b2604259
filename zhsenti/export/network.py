"""From adapter to a model that can be written down, and back from a transformers model to scores: what formats share.

The merge is computed in float32 and rounded to the export's type once, so W + (alpha / r) B A loses nothing before.
Shapes: B rows, L tokens, C classes, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.models.backbone import load_config, load_lora, quiet_loading
from zhsenti.models.failures import naming_load_failures
from zhsenti.models.precision import pick_device, pick_precision

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from zhsenti.methods.base import Method
    from zhsenti.models.adapter_check import SavedAdapter


def merge(method: Method, base: Path, adapter: SavedAdapter) -> PreTrainedModel:
    """The base with the adapter folded in, as transformers' own model, float32.

    It is made on the CPU, also where there is a GPU: float32 needs twice the memory that the adapter was trained in.

    Raises:
        ModelError: The parts do not fit each other, or memory is too short.
    """
    import torch

    with naming_load_failures("关掉别的占内存的程序，或在内存大的机器上导出：合并要每个参数 4 字节。"):
        loaded = method.load(base, pick_precision("fp32"), device=torch.device("cpu"))
        network: Any = load_lora(loaded, adapter, head=method.head).merge_and_unload().eval()
    network.config.use_cache = load_config(base).use_cache
    return network


def save_tokenizer(base: Path, folder: Path) -> None:
    """Write the base's tokenizer and chat template, with NFC, which zhsenti always applies, and a padding token."""
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


def transformers_score(method: Method, network: Any) -> Callable[[Sequence[list[int]]], np.ndarray]:
    """How ``network`` scores by transformers' own forward pass, on rows padded on the right with a mask.

    Args:
        method: The adapter's; it reads the scores where the network's output is not the classes' logits.
        network: A transformers model, as it was read from the disk.

    Returns:
        From the prompt ids of B rows to class log-probabilities, float32 (B, C).
    """
    import torch

    device = pick_device()
    network.to(device).eval()

    @torch.inference_mode()
    def score(rows: Sequence[list[int]]) -> np.ndarray:
        sequences = [ids + continuation for ids in rows for continuation in method.continuations]
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
    """Ids and attention mask, int64 (B, L), of rows padded on the right with the id ``padding``."""
    import numpy as np

    longest = max(map(len, rows))
    ids_BL = np.array([row + [padding] * (longest - len(row)) for row in rows], dtype=np.int64)
    mask_BL = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
    return ids_BL, mask_BL
