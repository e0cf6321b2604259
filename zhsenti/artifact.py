"""The saved folder: the PEFT adapter (with the head, if any) plus one manifest that holds what prediction needs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhsenti.core.errors import ArtifactError, ConfigError, first_line
from zhsenti.core.files import building, sync_folder, write_json
from zhsenti.core.hashing import file_sha256
from zhsenti.core.paths import user_path
from zhsenti.core.provenance import library_versions
from zhsenti.models.adapter_check import CONFIG, WEIGHTS, SavedAdapter, open_adapter
from zhsenti.models.precision import SCORING_PRECISIONS
from zhsenti.models.untrusted import is_pickle, read_json, refuse_code, refuse_name
from zhsenti.task import SentimentTask

MANIFEST = "zhsenti.json"
FORMAT = 1
CARD = "README.md"  # for people, who may edit it: not sealed


@dataclass(frozen=True)
class Manifest:
    """What a saved folder says of itself.

    Attributes:
        method: Registry key of its method.
        task: What is asked of the model.
        base: Which backbone and why: requested, model_id, source, revision, reason, precision, use_qlora.
        data: What it was trained on: name, sha256, how to load it again.
        training: Settings and result.
        calibration: ``temperature`` that predictions are divided by (none: 1) and how an evaluation fitted it.
        versions: Of the libraries that wrote it.
        files: Name -> SHA-256 of every other file in the folder but the card.
        format: Of the manifest.
    """

    method: str
    task: SentimentTask
    base: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def temperature(self) -> float:
        """What log-probabilities are divided by before they are shown (then normalised again)."""
        return float(self.calibration.get("temperature", 1.0))


@dataclass(frozen=True)
class Artifact:
    """A saved folder that has been opened and has passed every check; only ``open_artifact`` makes one.

    Attributes:
        folder: Where it lies.
        manifest: What it says of itself.
        adapter: Its LoRA, and what its weights file holds.
    """

    folder: Path
    manifest: Manifest
    adapter: SavedAdapter


def seal(folder: Path, name: str, values: dict[str, Any]) -> None:
    """Write ``values`` and the SHA-256 of every file as the last file in ``folder``: the mark that it is whole.

    What the mark speaks of is on the disk before the mark is, so that a power cut leaves no mark without its files.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in (name, CARD):
            files[path.name] = file_sha256(path)
            with path.open("r+b") as stream:  # Windows syncs only what may be written
                os.fsync(stream.fileno())
    write_json(folder / name, {**values, "files": files})
    sync_folder(folder)


def check_unchanged(artifact: Artifact) -> None:
    """Open the folder again: an evaluation takes long, and a training may have put another adapter there meanwhile.

    Raises:
        ArtifactError: It is not whole any more, or holds other files.
    """
    if open_artifact(artifact.folder).manifest.files != artifact.manifest.files:
        raise ArtifactError(f"{artifact.folder} 里已是另一个适配器", todo="对它再运行一次：zhsenti evaluate。")


def check_was_read_whole(artifact: Artifact) -> None:
    """Look at the manifest again, once the weights were read: a training may have swapped the folder in between.

    Raises:
        ArtifactError: It names other files than those that were checked.
    """
    try:
        there = read_json(artifact.folder / MANIFEST).get("files")
    except (OSError, ValueError) as error:
        there = first_line(error)
    if there != artifact.manifest.files:
        raise ArtifactError(f"{artifact.folder} 在读的时候被换成了另一个适配器", todo="再来一次，就读新的。")


def store_calibration(artifact: Artifact, calibration: dict[str, Any]) -> None:
    """Write ``calibration`` into the folder's manifest, atomically; all else in it stays.

    Raises:
        ArtifactError: The folder is not what ``artifact`` was made of any more.
        OSError: It cannot be written.
    """
    check_unchanged(artifact)
    path = artifact.folder / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**values, "calibration": calibration})


def broken_files(folder: Path, files: dict[str, str]) -> list[str]:
    """Names in ``files`` that are missing from ``folder``, changed since it was sealed, or no names of files in it."""
    return [name for name, digest in files.items() if not _is_whole(folder, name, digest)]


def _is_whole(folder: Path, name: str, digest: str) -> bool:
    try:
        refuse_name(name)
        return (folder / name).is_file() and file_sha256(folder / name) == digest
    except (ValueError, OSError):  # what cannot be read is not whole
        return False


def save_artifact(folder: Path, network: Any, manifest: Manifest) -> None:
    """Save the adapter beside ``folder``, seal it, compare it with the live weights, then swap it in.

    A crash at any point leaves the old folder or the new one.

    Raises:
        ArtifactError: What was written is not, bit for bit, what was trained (a head that is saved whole included).
    """
    from safetensors.torch import load_file

    with building(folder) as staging:
        write_adapter(network, staging)
        compare_with_live(network, load_file(staging / WEIGHTS), staging)
        values = dataclasses.asdict(dataclasses.replace(manifest, versions=library_versions()))
        values.pop("files")
        seal(staging, MANIFEST, values)


def write_adapter(network: Any, folder: Path) -> None:
    """Write a PeftModel's two files, without peft's card, which says nothing of the model."""
    network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / CARD).unlink(missing_ok=True)


def live_adapter(network: Any) -> dict[str, Any]:
    """Names and tensors that a PeftModel's adapter consists of, the head included, as they are now."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(network, save_embedding_layers=False)


def compare_with_live(network: Any, saved: dict[str, Any], folder: Path) -> None:
    """Check that every trainable tensor of ``network`` is in ``saved`` with equal bits, and nothing else.

    Args:
        network: A live PeftModel.
        saved: Tensors by peft's names.
        folder: Where they were read from, for the message.

    Raises:
        ArtifactError: They differ.
    """
    live = live_adapter(network)
    trainable = sum(1 for parameter in network.parameters() if parameter.requires_grad)
    same = saved.keys() == live.keys() and all(saved[key].equal(live[key].cpu()) for key in live)
    if not same or len(saved) != trainable:
        raise ArtifactError(
            f"保存的适配器 {folder} 与内存中的权重不一致",
            expected=f"{trainable} 个可训练张量，逐位相同",
            found=f"{len(saved)} 个张量",
            todo="这是程序错误或磁盘故障；旧的适配器没有被覆盖。",
        )


def open_artifact(folder: str | Path) -> Artifact:
    """Read and check a saved folder, which may come from a stranger: nothing in it is used before all of it passed.

    Every file is hashed once and every header read once; whoever needs more of the folder is given the ``Artifact``.
    Not checked here: whether the adapter fits its base, and its values (``load_adapter`` does that when it loads them).

    Raises:
        ArtifactError: Something is missing, changed, from a newer version, or not for use; the message says what.
    """
    folder = user_path(str(folder))
    train = "先训练：zhsenti train，或检查 --model_path。"
    if not folder.is_dir():
        raise ArtifactError(f"没有这个适配器文件夹：{folder}", todo=train)
    path = folder / MANIFEST
    if not path.is_file():
        found = "、".join(sorted(p.name for p in folder.iterdir())[:8]) or "空文件夹"
        raise ArtifactError(
            f"{folder} 不是 zhsenti 的适配器文件夹", expected=f"含有 {MANIFEST}", found=found, todo=train
        )
    with _refusing(f"{folder} 里有不该有的文件", "移走它们；链接换成文件本身（cp -rL）；不要用来历不明的文件夹。"):
        _refuse_entries(folder)
    with _refusing(f"{path} 已损坏", "重新训练或从备份恢复。"):
        manifest = _read_manifest(path)
    if manifest.format > FORMAT:
        raise ArtifactError(
            f"{folder} 是更新版本的 zhsenti 写的",
            expected=f"格式 {FORMAT}",
            found=str(manifest.format),
            todo="升级 zhsenti。",
        )
    broken = broken_files(folder, manifest.files)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in manifest.files]
    if broken or missing:
        found = "、".join(map(_printable, broken[:8])) or f"缺 {'、'.join(missing)}"
        raise ArtifactError(f"{folder} 里的文件缺失或被改过", found=found, todo="重新训练或从备份恢复。")
    with _refusing(f"{folder} 里有不该有的文件", "移走它们：清单里没有，谁放的、做什么用都不知道。"):
        _refuse_unlisted(folder, manifest.files)
    with _refusing(f"{folder} 里的适配器不能用", "重新训练或从备份恢复；不要用来历不明的文件夹。"):
        adapter = open_adapter(folder)
    return Artifact(folder, manifest, adapter)


@contextmanager
def _refusing(problem: str, todo: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:  # the task's own faults
        raise ArtifactError(problem, found=error.problem[:300], todo=todo) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(problem, found=str(error)[:300], todo=todo) from error


def _refuse_entries(folder: Path) -> None:
    """Refuse files that run what they hold, and links that lead out of the folder.

    Raises:
        ValueError: There is one; it is named.
    """
    home = folder.resolve()
    for entry in sorted(folder.iterdir()):
        name = repr(entry.name)[1:-1][:80]
        if is_pickle(entry.name):
            raise ValueError(f"{name}（pickle 格式，可能执行代码；zhsenti 只写 safetensors）")
        if entry.is_symlink() and home not in entry.resolve().parents:
            raise ValueError(f"{name} 是指向文件夹之外的链接")


def _refuse_unlisted(folder: Path, files: dict[str, str]) -> None:
    """Refuse what the manifest does not name: a library might read it (an index of other weights, say), unsealed.

    The card is for people; names with a dot in front are no library's.

    Raises:
        ValueError: There is something; it is named.
    """
    known = {*files, MANIFEST, CARD}
    names = sorted(p.name for p in folder.iterdir() if p.name not in known and not p.name.startswith("."))
    if names:
        raise ValueError("、".join(map(_printable, names[:8])))


def _printable(name: str) -> str:
    """A stranger's name for a file as it may stand in a message: on one line, without control characters, not long."""
    return repr(name)[1:-1][:80]


# What commands read of a manifest, and the types they count on; a section comes before its keys.
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("method", "base.model_id", "base.revision", "base.precision", "task.template"), (str,)),
    **dict.fromkeys(("task", "base", "data", "training", "training.settings", "calibration", "versions"), (dict,)),
    **dict.fromkeys(("files", "task.aliases"), (dict,)),
    **dict.fromkeys(("task.labels", "task.words"), (list,)),
    **dict.fromkeys(("format", "task.max_length", "data.seed", "training.settings.max_train_samples"), (int,)),
    **dict.fromkeys(("task.head_share", "calibration.temperature"), (int, float)),
    **dict.fromkeys(("data.name", "data.sha256", "data.dataset", "data.text_column"), (str, type(None))),
    **dict.fromkeys(("data.label_column", "data.aspect_column"), (str, type(None))),
    **dict.fromkeys(("data.duplicates", "data.conflicts"), (str, type(None))),
    "base.use_qlora": (bool,),
}
_NEEDED = ("method", "task", "base", "base.model_id", "base.revision", "files")


def _read_manifest(path: Path) -> Manifest:
    """The manifest in ``path``.

    Raises:
        ValueError: It is not one; a Chinese reason.
        ConfigError: Its task's parts do not fit each other.
    """
    values = read_json(path)
    refuse_code(values)
    for name, kinds in sorted(_KINDS.items()):
        section, _, key = name.rpartition(".")
        holder = values
        for part in section.split(".") if section else ():
            holder = holder.get(part, {})
        if key in holder and type(holder[key]) not in kinds:
            raise ValueError(f"{name} 的类型不对：{str(holder[key])[:80]!r}")
        if key not in holder and name in _NEEDED:
            raise ValueError(f"缺 {name}")
    base, task = values["base"], values.pop("task")
    for key in ("model_id", "revision"):  # shown to people, and the name of what is fetched
        if not base[key].isprintable() or not 0 < len(base[key]) <= 4096:
            raise ValueError(f"base.{key} = {base[key][:80]!r}，不是名字")
    if base.get("precision", "auto") not in SCORING_PRECISIONS:
        raise ValueError(f"base.precision = {base['precision'][:80]!r}，期望 {'、'.join(SCORING_PRECISIONS)}")
    lists = [task.get("labels", []), task.get("words", []), *task.get("aliases", {}).values()]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("task 的 labels、words、aliases 要是文字的列表")
    known = {f.name for f in dataclasses.fields(Manifest)}
    manifest = Manifest(task=SentimentTask.from_dict(task), **{k: v for k, v in values.items() if k in known})
    if not 0 < manifest.temperature < math.inf:
        raise ValueError(f"calibration.temperature = {manifest.temperature}，期望正数")
    return manifest
