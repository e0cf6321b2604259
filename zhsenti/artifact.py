"""The saved folder: the PEFT adapter (with the head, if any) plus one manifest that holds what prediction needs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhsenti import __version__
from zhsenti.errors import ArtifactError, ConfigError
from zhsenti.files import write_json
from zhsenti.labels import SentimentTask
from zhsenti.models.embedded import file_sha256

MANIFEST = "zhsenti.json"
FORMAT = 1
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"  # for people, who may edit it: not sealed


@dataclass(frozen=True)
class Manifest:
    """method  registry key;  base  which backbone (requested, model_id, source, revision, precision, quantised)
    data  what it was trained on (name, sha256, how to load it again);  training  settings and result
    calibration  ``temperature`` that predictions are divided by (none: 1) and how it was fitted, set by an evaluation
    versions  of the libraries that wrote it;  files  name -> SHA-256 of every other file in the folder but the card.
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


def library_versions() -> dict[str, str]:
    from importlib import metadata

    names = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "safetensors")
    return {"zhsenti": __version__, **{name: metadata.version(name) for name in names}}


def check_writable(output_dir: Path) -> None:
    """Raises ConfigError, without writing anything, when ``output_dir`` can be neither made nor written."""
    probe = output_dir.absolute()
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK):
        raise ConfigError(f"不能写入输出目录 {output_dir}", found=f"{probe} 不可写", todo="换一个 --output_dir。")


def seal(folder: Path, name: str, values: dict[str, Any]) -> None:
    """Write ``values`` and the SHA-256 of every file as the last file in ``folder``: the mark that it is whole."""
    files = {p.name: file_sha256(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name not in (name, CARD)}
    write_json(folder / name, {**values, "files": files})


def store_calibration(folder: Path, calibration: dict[str, Any]) -> None:
    """Write ``calibration`` into the folder's manifest, atomically; all else in it stays. Raises ArtifactError."""
    load_manifest(folder)  # never touches a folder that is not whole
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    write_json(folder / MANIFEST, {**values, "calibration": calibration})


def broken_files(folder: Path, files: dict[str, str]) -> list[str]:
    """Names in ``files`` that are missing from ``folder`` or changed since it was sealed."""
    return [
        name
        for name, digest in files.items()
        if Path(name).name != name or not (folder / name).is_file() or file_sha256(folder / name) != digest
    ]


def save_artifact(folder: Path, network: Any, manifest: Manifest) -> None:
    """Save the adapter beside ``folder``, seal it, compare it with the live weights, then swap it in.

    A crash at any point leaves the old folder or the new one. Raises ArtifactError when what was written is not,
    bit for bit, what was trained (this includes the classifier head).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    network.save_pretrained(staging, safe_serialization=True, save_embedding_layers=False)
    (staging / CARD).unlink(missing_ok=True)
    compare_with_saved(network, staging)
    values = dataclasses.asdict(dataclasses.replace(manifest, versions=library_versions()))
    values.pop("files")
    seal(staging, MANIFEST, values)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old-{uuid.uuid4().hex[:8]}")
        folder.rename(old)
        staging.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        staging.rename(folder)


def compare_with_saved(network: Any, folder: Path) -> None:
    """Every trainable tensor of ``network`` must be in the saved file with equal bits."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    saved = load_file(folder / WEIGHTS)
    live = get_peft_model_state_dict(network, save_embedding_layers=False)
    trainable = sum(1 for parameter in network.parameters() if parameter.requires_grad)
    same = saved.keys() == live.keys() and all(saved[key].equal(live[key].cpu()) for key in live)
    if not same or len(saved) != trainable:
        raise ArtifactError(
            f"保存的适配器 {folder} 与内存中的权重不一致",
            expected=f"{trainable} 个可训练张量，逐位相同",
            found=f"{len(saved)} 个张量",
            todo="这是程序错误或磁盘故障；旧的适配器没有被覆盖。",
        )


def load_manifest(folder: str | Path) -> Manifest:
    """Read and check a saved folder. Raises ArtifactError saying what is missing, changed, or from a newer version."""
    folder = Path(folder)
    train = "先训练：python scripts/train_label_scoring.py，或检查 --model_path。"
    if not folder.is_dir():
        raise ArtifactError(f"没有这个适配器文件夹：{folder}", todo=train)
    path = folder / MANIFEST
    if not path.is_file():
        found = "、".join(sorted(p.name for p in folder.iterdir())[:8]) or "空文件夹"
        raise ArtifactError(
            f"{folder} 不是 zhsenti 的适配器文件夹", expected=f"含有 {MANIFEST}", found=found, todo=train
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        task = SentimentTask.from_dict(values.pop("task"))
        known = {f.name for f in dataclasses.fields(Manifest)}
        manifest = Manifest(task=task, **{k: v for k, v in values.items() if k in known})
        if not 0 < manifest.temperature < float("inf"):
            raise ValueError(f"temperature {manifest.temperature}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} 已损坏", found=str(error)[:200], todo="重新训练或从备份恢复。") from error
    if manifest.format > FORMAT:
        raise ArtifactError(
            f"{folder} 是更新版本的 zhsenti 写的",
            expected=f"格式 {FORMAT}",
            found=str(manifest.format),
            todo="升级 zhsenti。",
        )
    broken = broken_files(folder, manifest.files)
    if broken or WEIGHTS not in manifest.files:
        raise ArtifactError(
            f"{folder} 里的文件缺失或被改过", found="、".join(broken) or f"缺 {WEIGHTS}", todo="重新训练或从备份恢复。"
        )
    return manifest
