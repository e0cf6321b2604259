"""A plain transformers folder: LoRA folded into the base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.export.base import Format, Reloaded
from zhsenti.export.network import transformers_score
from zhsenti.models.backbone import quiet_loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zhsenti.methods.base import Method


class Merged(Format):
    """safetensors, configuration and generation configuration, as transformers saves them."""

    name = "merged"
    dtypes = ("bf16", "fp16", "fp32")
    usage = 'transformers 的 from_pretrained("{folder}")，或 vllm serve {folder}'
    takes_text = True

    def write(self, method: Method, network: PreTrainedModel, folder: Path, dtype: str) -> None:
        """The network as ``Method.export`` gives it, rounded in place."""
        import torch
        from transformers import AutoTokenizer

        with quiet_loading():
            padding = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).pad_token_id
        ordinary: Any = method.export(network)
        # transformers' classifiers find a row's last token by the padding id: with another one than the tokenizer's
        # they would read padding.
        ordinary.config.pad_token_id = ordinary.config.pad_token_id if padding is None else padding
        ordinary.to({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype])
        with quiet_loading():
            ordinary.save_pretrained(folder, safe_serialization=True)

    def load(self, method: Method, folder: Path) -> Reloaded:
        """With the class that the folder's own configuration names."""
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


MERGED = Merged()
