"""What a base model's folder may hold, checked before anything in it is used; and what makes two of them the same."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from zhsenti.core.errors import ModelError
from zhsenti.core.hashing import file_sha256
from zhsenti.models.untrusted import FAMILY, is_pickle, read_header, read_json, refuse_code, refuse_name, refuse_sizes


def check_folder(path: Path) -> None:
    """Check that ``path`` is a Qwen2/Qwen3 checkpoint in safetensors with its tokenizer.

    Pickle files beside safetensors, as hub repositories have them, are never read. Not checked: the values of the
    weights (gigabytes) and tokenizer.json, which the tokenizers library parses when it is loaded.

    Raises:
        ModelError: It is not; the message says what is wrong.
    """
    todo = "给出完整的 Qwen2/Qwen2.5/Qwen3 模型文件夹（config.json、tokenizer.json、*.safetensors）。"
    refuse_settings(path)
    try:
        config = read_json(path / "config.json")
    except FileNotFoundError:
        raise ModelError(f"{path} 里没有 config.json", todo=todo) from None
    kind = config.get("model_type")
    if kind not in FAMILY:
        raise ModelError(f"不支持这种模型：{path}", expected="、".join(FAMILY), found=f"model_type = {kind}", todo=todo)
    weights = {p.name for p in path.glob("*.safetensors")}
    if not weights:
        pickles = sorted(p.name for p in path.iterdir() if is_pickle(p.name))
        found = f"只有 {'、'.join(pickles)}（pickle 格式，可能执行代码，不读）" if pickles else "没有权重文件"
        raise ModelError(f"{path} 里没有 safetensors 权重", found=found, todo=todo)
    missing = sorted(_shards(path) - weights)
    if missing:
        raise ModelError(f"{path} 缺权重分片", found="缺 " + "、".join(missing), todo=todo)
    for name in sorted(weights):
        try:
            read_header(path / name)
        except (OSError, ValueError) as error:
            raise ModelError(f"权重文件 {path / name} 不能用", found=str(error)[:300], todo=todo) from error
    try:
        refuse_sizes(config)
    except ValueError as error:
        raise ModelError(f"{path}/config.json 不能用", found=str(error)[:300], todo=todo) from error
    if not any((path / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(f"{path} 里没有分词器", expected="tokenizer.json", todo=todo)


def refuse_settings(path: Path) -> None:
    """Refuse a folder whose settings would run code, or send the libraries to other files.

    Raises:
        ModelError: One of them would; it is named.
    """
    if (path / "adapter_config.json").exists():
        raise ModelError(
            f"{path} 是适配器文件夹，或基座里夹带了适配器",
            found="adapter_config.json",
            todo="适配器用 --model_path；要当基座用，先移走 adapter_config.json。",
        )
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        try:
            values = read_json(path / name)
            refuse_code(values)
            if values.get("transformers_weights"):
                raise ValueError("设了 transformers_weights：会改读别的权重文件")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{path}/{name} 读不了或不能用", found=str(error)[:300], todo="换一个来历清楚的模型文件夹。"
            ) from error


def _shards(path: Path) -> set[str]:
    """Names that the index points to (none without one): files of this folder, and safetensors only."""
    index = path / "model.safetensors.index.json"
    try:
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ValueError("没有 weight_map")
        for name in names.values():
            refuse_name(name)
            if not name.endswith(".safetensors"):
                raise ValueError(f"分片不是 safetensors：{name}")
        return set(names.values())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise ModelError(f"{index} 不能用", found=str(error)[:300], todo="换一个完整的模型文件夹。") from error


def fingerprint(path: Path) -> str:
    """SHA-256 over the names and SHA-256 of the weight files: "the same base" means the same weights, from any source.

    The hub's cache names a file's blob by its SHA-256, which saves reading gigabytes at every start.
    """
    digest = hashlib.sha256()
    for weights in sorted(path.glob("*.safetensors")):
        digest.update(f"{weights.name}:{_cached_sha256(weights) or file_sha256(weights)}\n".encode())
    return digest.hexdigest()


def _cached_sha256(weights: Path) -> str:
    """The SHA-256 that the hub's cache of this user has as the name of ``weights``; "" for any other file.

    Only there: in a folder from elsewhere a link may lead to any name.
    """
    if not weights.is_symlink():
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE

    blob, cache = weights.resolve(), Path(HF_HUB_CACHE).resolve()
    inside = blob.parent.name == "blobs" and blob.is_relative_to(cache)
    return blob.name if inside and re.fullmatch("[0-9a-f]{64}", blob.name) else ""
