"""A tokenizer to count with, from what is on this machine: an audit never downloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhsenti.artifact import Manifest
from zhsenti.audit.checks.base import CountTokens
from zhsenti.core.errors import ModelError
from zhsenti.core.paths import model_cache, user_path
from zhsenti.data.text import readable
from zhsenti.models.backbone import Tokenizer
from zhsenti.models.embedded import EMBEDDED, is_whole
from zhsenti.models.sources import is_hub_id


def find_tokenizer(name: str | None, manifest: Manifest | None) -> tuple[CountTokens | None, str]:
    """Find a tokenizer.

    Args:
        name: The model whose tokenizer must be used; None for the best at hand.
        manifest: Of an adapter, whose base is tried first.

    Returns:
        Something that counts tokens, or None where there is no tokenizer; and a Chinese sentence on it.

    Raises:
        ModelError: ``name`` was given and is not on this machine.
    """
    trained = [str(manifest.base["model_id"])] if manifest else []
    for candidate in [name] if name else [*trained, *EMBEDDED]:
        folder = _local_folder(candidate)
        if folder:
            return _counter(Tokenizer(folder)), f"token 数由 {candidate} 的分词器数出"
    if name:
        raise ModelError(
            f"本地没有 {name} 的分词器",
            expected="含 tokenizer.json 的文件夹，或已下载过的模型（审计从不下载）",
            todo="去掉 --model_name，就按字数估计。",
        )
    return None, "本地没有分词器，token 数按字数估计（每个汉字约 0.62 个）"


def _counter(tokenizer: Tokenizer) -> CountTokens:
    def count(texts: Sequence[str]) -> list[int]:
        return [len(tokenizer.encode(readable(text), split_special_tokens=True)) for text in texts]

    return count


def _local_folder(name: str) -> Path | None:
    """Where the tokenizer of ``name`` lies on this machine: a folder, an embedded model, the hub's cache."""
    path = user_path(name)
    if name in EMBEDDED:
        path = model_cache() / name
        return path if is_whole(path) else None
    if path.is_dir():
        return path if any((path / file).is_file() for file in ("tokenizer.json", "vocab.json")) else None
    if is_hub_id(name):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "tokenizer.json")
        return Path(cached).parent if isinstance(cached, str) else None
    return None
