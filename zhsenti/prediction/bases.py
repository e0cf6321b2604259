"""Which base an adapter is put on, and what it computes in there."""

from __future__ import annotations

import torch

from zhsenti.artifact import Manifest
from zhsenti.core.errors import ArtifactError, ModelError
from zhsenti.models.precision import Precision, pick_precision
from zhsenti.models.sources import ResolvedModel, resolve_model


def find_base(manifest: Manifest, model_name: str | None) -> ResolvedModel:
    """The base the adapter was trained on.

    Raises:
        ArtifactError: It is not found, or what is found is another one: LoRA weights mean nothing elsewhere.
    """
    trained = manifest.base
    try:
        model = resolve_model(model_name or trained["model_id"])
    except ModelError as error:
        raise ArtifactError(
            f"找不到适配器的基座模型 {trained['model_id']}",
            found=error.problem,
            todo="用 --model_name 指出基座所在的文件夹，或先让它能被下载。",
        ) from error
    if model.revision != trained["revision"]:
        raise ArtifactError(
            "基座与训练时的不是同一个",
            expected=f"{trained['model_id']}，版本 {trained['revision'][:16]}",
            found=f"{model.model_id}，版本 {model.revision[:16]}",
            todo="用训练时的基座，或重新训练。",
        )
    return model


def usable_precision(name: str) -> Precision:
    """Training's precision where this machine has it; a GPU-trained fp16 adapter on a CPU runs in the CPU's best."""
    return pick_precision("auto" if name == "fp16" and not torch.cuda.is_available() else name)
