"""The cache against its own marks: every model's files by size and SHA-256, what was left over, rows of datasets."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from zhsenti.core.console import gigabytes
from zhsenti.core.hashing import file_sha256
from zhsenti.core.paths import cache_root, model_cache
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, Finding, kind_and_line
from zhsenti.models.embedded import MARK

_PARTS = re.compile(r"\.parts-(?P<of>.+)")
_STAGING = re.compile(r"\.(?P<of>.+)\.(zhsenti-)?[0-9a-f]{8}")


def models() -> Iterator[Finding]:
    """Every model in the cache, and what was left there by downloads that did not end."""
    folder = model_cache()
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        yield Finding("缓存（模型）", OK, "还没有；第一次用到时准备")
    for path in folders:
        yield _left_over(path) if path.name.startswith(".") else _model(path)


def _model(folder: Path) -> Finding:
    name, faults = f"缓存（{folder.name}）", damage(folder)
    size = gigabytes(_size(folder))
    if faults:
        return Finding(name, PROBLEM, f"{size}，损坏：{'；'.join(faults)}", f"{_delete(folder)}（下次用到时重新准备）")
    return Finding(name, OK, f"{size}，每个文件的大小和 SHA-256 都对")


def damage(folder: Path) -> list[str]:
    """Compare a model's files with the mark that was written when they were whole; reads all of them (1 GB a second).

    Returns:
        What differs, in Chinese.
    """
    try:
        entries = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in entries.items()}
    except FileNotFoundError:
        return [f"没有标记 {MARK}（准备时中断）"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"标记 {MARK} 读不了（{kind_and_line(error)}）"]
    faults = []
    for name, (size, digest) in files.items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                faults.append(f"{name} 应为 {size} 字节，实际 {path.stat().st_size}")
            elif file_sha256(path) != digest:
                faults.append(f"{name} 大小对，内容变了（SHA-256 不符）")
        except FileNotFoundError:
            faults.append(f"缺 {name}")
        except OSError as error:
            faults.append(f"{name} 读不了（{error.strerror}）")
    return faults


def _left_over(folder: Path) -> Finding:
    """Parts of an interrupted download, or a conversion that was killed; or one that is at work right now."""
    match = _PARTS.fullmatch(folder.name) or _STAGING.fullmatch(folder.name)
    name, size = f"缓存（{folder.name}）", gigabytes(_size(folder))
    if match and _busy(folder.with_name(f".{match['of']}.lock")):
        return Finding(name, OK, f"{size}，另一个进程正在准备 {match['of']}")
    if _PARTS.fullmatch(folder.name):
        todo = f"再用一次这个模型就接着取；不要了就 {_delete(folder)}"
        return Finding(name, NOTICE, f"{size}，没有取完的分卷", todo)
    return Finding(name, NOTICE, f"{size}，中断时留下的", _delete(folder))


def _busy(lock: Path) -> bool:
    if not lock.is_file():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a cache that cannot be written has nobody at work in it
        return False


def datasets() -> Iterator[Finding]:
    """Every data set in the cache, with its rows counted."""
    folder = cache_root() / "datasets"
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        yield Finding("缓存（数据）", OK, "还没有；第一次用到时准备")
    for path in folders:
        if path.name.startswith("."):
            yield Finding(f"缓存（{path.name}）", NOTICE, f"{gigabytes(_size(path))}，中断时留下的", _delete(path))
        else:
            yield _dataset(path)


def _dataset(folder: Path) -> Finding:
    from zhsenti.data.registry import DATASETS

    expected = DATASETS.load(folder.name).rows if folder.name in DATASETS else None
    name, rows, faults = f"缓存（{folder.name}）", {}, []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open(encoding="utf-8") as stream:
                rows[path.stem] = sum({"text", "label"} <= json.loads(line).keys() for line in stream)
        except (OSError, ValueError, AttributeError) as error:
            faults.append(f"{path.name} 读不了（{kind_and_line(error)}）")
    counted = "、".join(f"{split} {count:,}" for split, count in rows.items()) or "没有数据文件"
    if expected and not faults and rows != expected:
        wanted = "、".join(f"{split} {count:,}" for split, count in expected.items())
        faults.append(f"行数不对：{counted}（应为 {wanted}）")
    if faults:
        return Finding(name, PROBLEM, f"损坏：{'；'.join(faults)}", f"{_delete(folder)}（下次用到时重新取）")
    return Finding(name, OK, f"{counted} 行")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _delete(folder: Path) -> str:
    return f"rm -r {shlex.quote(str(folder))}"
