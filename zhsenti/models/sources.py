"""From a model's name to a folder that ``from_pretrained`` can read, and a sentence on what was chosen and why."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from zhsenti.core import console
from zhsenti.core.errors import ModelError
from zhsenti.core.hashing import file_sha256
from zhsenti.core.paths import cache_root, user_path
from zhsenti.models.embedded import EMBEDDED, FAMILY, convert_gguf, is_whole, prepare_embedded
from zhsenti.models.untrusted import is_pickle, read_header, read_json, refuse_code, refuse_name, refuse_sizes

PATTERNS = ["config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt", "*.safetensors*"]
OFFLINE_ADVICE = (
    "检查网络；国内可设 HF_ENDPOINT=https://hf-mirror.com；或给出本地文件夹；"
    "或用 --model_name embedded（只需软件包源）。"
)
GPU_BYTES_FOR_DEFAULT = 4e9  # what QLoRA needs for 1.5B at 256 tokens; less than that trains 0.5B


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


def resolve_model(name: str = "auto", *, say: Callable[[str], None] = _TELL) -> ResolvedModel:
    """Find (and fetch, once) the model ``name``; an explicit name is never swapped for another.

    Args:
        name: A hub or ModelScope id, a folder, a .gguf file, the name of an embedded model, or ``auto``.
        say: Told what is being done (Chinese).

    Raises:
        ModelError: It cannot be had from anywhere, or is not a model that can be used.
    """
    if name == "auto":
        return _auto(say)
    if name in EMBEDDED:
        return _embedded(name, name, "按名字使用软件包携带的权重", say)
    path = user_path(name)
    if name.endswith(".gguf"):
        return _gguf(name, path, say)
    if path.is_dir():
        return _local(name, path.resolve())
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"没有这个模型：{name}",
            expected="auto、embedded、embedded-1.5b、hub id（如 Qwen/Qwen2.5-1.5B）、模型文件夹或 .gguf 文件",
            found="不是其中任何一种，路径也不存在",
        )
    found, failures = _remote(name, name, say)
    if found is None:
        raise ModelError(f"取不到模型 {name}", found="；".join(failures), todo=OFFLINE_ADVICE)
    return found


def _auto(say: Callable[[str], None]) -> ResolvedModel:
    large = _gpu_bytes() >= GPU_BYTES_FOR_DEFAULT
    wanted = "Qwen/Qwen2.5-1.5B" if large else "Qwen/Qwen2.5-0.5B"
    why = "有显卡，默认 1.5B" if large else "没有够大的显卡，默认 0.5B"
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
            with _silenced():
                path = fetch(model_id)
        except Exception as error:  # libraries raise many kinds; all of them mean "not from here"
            failures.append(f"{source}：{_reason(error)}")
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


def _reason(error: Exception) -> str:
    names = {type(e).__name__ for e in _chain(error)}
    if names & {"LocalEntryNotFoundError"}:
        return "没有"
    if any("NotFound" in name for name in names):
        return "没有这个模型"
    if any("Gated" in name for name in names):
        return "需要授权"
    if any(
        word in name
        for name in names
        for word in ("Connect", "Timeout", "NameResolution", "OfflineMode", "Proxy", "SSL")
    ):
        return "连不上"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _silenced() -> Iterator[None]:
    """No retries' log lines, no bars, from libraries whose failure is an answer here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _embedded(requested: str, name: str, reason: str, say: Callable[[str], None]) -> ResolvedModel:
    folder = cache_root() / "models" / name
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
    folder = cache_root() / "models" / f"gguf-{digest[:16]}"
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
        blob = weights.resolve().name
        known = weights.is_symlink() and re.fullmatch("[0-9a-f]{64}", blob)
        digest.update(f"{weights.name}:{blob if known else file_sha256(weights)}\n".encode())
    return digest.hexdigest()
