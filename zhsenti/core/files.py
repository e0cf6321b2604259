"""Files that appear whole: a reader sees the old one or the new one, and a failure leaves nothing behind."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhsenti.core.console import gigabytes
from zhsenti.core.errors import ConfigError, ZhsentiError, first_line


def temporary_name(path: Path) -> Path:
    """A path beside ``path`` that nothing has yet; ``left_over`` knows its name, which nobody else gives to a file."""
    return path.with_name(f".{path.name}.zhsenti-{uuid.uuid4().hex[:8]}")


def left_over(path: Path) -> list[Path]:
    """What writers of ``path`` have left beside it when they were killed; ask while nobody writes it."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.zhsenti-[0-9a-f]{{8}}(-parts)?")
    return [one for one in path.parent.iterdir() if ours.fullmatch(one.name)] if path.parent.is_dir() else []


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when all went well."""
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """UTF-8; lone surrogates, which no file can hold, become "?"."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(text.encode("utf-8", "replace"))
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, values: object) -> None:
    """Indented, with Chinese as it is, for people who read along."""
    write_text(path, json.dumps(values, ensure_ascii=False, indent=2) + "\n")


def check_writable(folder: Path, flag: str) -> None:
    """Make sure that ``folder`` can be made and written; leaves nothing behind.

    Args:
        folder: Where something will be written.
        flag: The setting that names it, for the message.

    Raises:
        ConfigError: It cannot.
    """
    probe = folder.absolute()
    try:
        while not os.path.lexists(probe):
            probe = probe.parent
        if not probe.is_dir():
            raise NotADirectoryError(f"{probe} 是文件")
        with tempfile.TemporaryDirectory(prefix=".zhsenti-", dir=probe):  # asking for permission is not enough
            pass
    except OSError as error:
        found = f"{probe} 不可写（{error.strerror or error}）"
        raise ConfigError(f"不能写入输出目录 {folder}", found=found, todo=f"换一个 {flag}。") from error


def free_bytes(path: Path) -> int:
    """Free on the disk where ``path`` is, or would be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_space(path: Path, needed: float, refusal: type[ZhsentiError], problem: str, todo: str) -> None:
    """See that the disk where ``path`` is, or would be, has room.

    Args:
        path: What will be written.
        needed: Bytes.
        refusal: The error to raise.
        problem: Its first sentence.
        todo: Its last.

    Raises:
        refusal: Less is free than ``needed``.
    """
    free = free_bytes(path)
    if free < needed:
        raise refusal(problem, expected=f"至少 {gigabytes(needed)}", found=f"剩 {gigabytes(free)}", todo=todo)


def fresh_folder(wanted: Path) -> Path:
    """Make ``wanted``, or the first of wanted-2, wanted-3 … that does not exist yet; returns what was made."""
    folder, number = wanted, 2
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` survive a power cut, where the system can be asked for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def swap_in(new: Path, folder: Path) -> None:
    """``new`` takes the place of ``folder``, which is removed if it was there; on Linux there is no moment without one.

    Elsewhere the old one has another name for that moment; ``recover`` brings it back after a kill just then.
    """
    if not folder.exists():
        new.rename(folder)
    elif _exchange(new, folder):
        remove(new)
    else:
        old = _old(folder)
        remove(old)
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        remove(old)
    sync_folder(folder.parent)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its place when the block ends well, and is gone when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = temporary_name(folder)
    staging.mkdir()
    try:
        yield staging
        swap_in(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def recover(folder: Path) -> None:
    """Undo what a kill inside ``swap_in`` may have left, and remove what was never finished beside ``folder``."""
    old = _old(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in [old, *left_over(folder)]:
        remove(left)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.zhsenti-old")


@contextmanager
def hold(lock: Path, work: str, place: Path, flag: str, error: type[ZhsentiError] = ConfigError) -> Iterator[None]:
    """``lock``, in a folder that is made for it, for this process alone; it goes with the process, however that ends.

    The file may be removed inside.

    Args:
        lock: The file.
        work: What another process does, for the message (Chinese).
        place: Where, for the message.
        flag: The setting that names the place, for the message.
        error: What is raised.

    Raises:
        ZhsentiError: As ``error``: another process holds it, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, fallback_to_soft=False)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise error(f"另一个{work}正在写 {place}", todo=f"等它结束，或换一个 {flag}。") from None
        except FileNotFoundError:
            continue  # whoever held it has just removed its folder
        except (OSError, NotImplementedError) as reason:
            raise error(
                f"不能给 {lock.parent} 上锁", found=first_line(reason), todo=f"换一个本地磁盘上的 {flag}。"
            ) from reason
        if lock.exists():
            break
        held.release()  # its holder removed it while we opened it
    try:
        yield
    finally:
        held.release()


def remove(path: Path) -> None:
    """A folder with what is in it, or a file, or a link without what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (renameat2); False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    current_directory, rename_exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # an old C library
        return False
    names = (os.fsencode(path) for path in (one, other))
    return renameat2(current_directory, next(names), current_directory, next(names), rename_exchange) == 0
