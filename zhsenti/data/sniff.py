"""What a path is before it is read: a plain file, a folder, or something that would block, loop or be no table."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zipfile
from pathlib import Path

from zhsenti.core.errors import DataError

MAX_WHOLE = 256 * 2**20  # bytes of a file that can only be read whole (.json, Excel)
MAX_UNPACKED = 2 * 2**30  # bytes of a workbook once unzipped
LOCK = "~$"  # begins the name of the file that Excel keeps beside an open workbook

_REASONS = {
    errno.EACCES: "没有权限",
    errno.EPERM: "没有权限",
    errno.ELOOP: "符号链接绕成了圈",
    errno.ENAMETOOLONG: "路径太长",
    errno.EIO: "磁盘读取出错",
}
_KINDS = ((stat.S_ISFIFO, "管道（FIFO）"), (stat.S_ISSOCK, "套接字"), (stat.S_ISCHR, "设备"), (stat.S_ISBLK, "设备"))
_ZIP = b"PK\x03\x04"
# First bytes, what the file is, what to do. A zip file is looked into: a workbook is one.
_MAGIC = (
    (b"\x1f\x8b", "gzip 压缩文件", "先解压：gzip -dk 文件，再给出里面的文件。"),
    (b"BZh", "bzip2 压缩文件", "先解压，再给出里面的文件。"),
    (b"\xfd7zXZ\0", "xz 压缩文件", "先解压，再给出里面的文件。"),
    (b"\x28\xb5\x2f\xfd", "zstd 压缩文件", "先解压，再给出里面的文件。"),
    (b"7z\xbc\xaf\x27\x1c", "7z 压缩文件", "先解压，再给出里面的文件。"),
    (b"Rar!\x1a\x07", "rar 压缩文件", "先解压，再给出里面的文件。"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "旧版 Office 文件", "是 Excel 就改名为 .xls，否则另存为 .csv。"),
    (b"PAR1", "Parquet 文件", "改名为 .parquet。"),
    (b"%PDF", "PDF 文件", "从生成它的程序里导出 .csv 或 .xlsx。"),
    (b"\x89PNG", "PNG 图片", "给出含文字的表格文件。"),
    (b"\xff\xd8\xff", "JPEG 图片", "给出含文字的表格文件。"),
    (b"SQLite format 3\0", "SQLite 数据库", "把表导出为 .csv。"),
    (b"{\\rtf", "RTF 文档", "另存为 .csv 或 .xlsx。"),
)
_EXPECTED = {"Parquet 文件": (".parquet",), "旧版 Office 文件": (".xls", ".xlsx"), "xlsx": (".xls", ".xlsx")}


def unreadable(path: Path, error: OSError) -> DataError:
    """The Chinese message for what the operating system said of a file or folder."""
    found = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return DataError(f"读不了 {path}", found=found, todo="检查路径和权限。")


def is_folder(path: Path) -> bool:
    """Tell a folder (True) from a plain file (False). Nothing is opened, so a FIFO cannot block.

    Raises:
        DataError: There is nothing, or something else such as a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: NUL in a path
        dangling = isinstance(error, FileNotFoundError) and path.is_symlink()
        raise DataError(
            f"没有这个数据文件或文件夹：{path}",
            expected="存在的路径",
            found=f"符号链接指向不存在的 {os.readlink(path)}" if dangling else "",
            todo="检查路径。",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    for test, name in _KINDS:
        if test(mode):
            raise DataError(f"{path} 是{name}，不是文件", expected="普通文件", todo="先把内容存成文件。")
    return stat.S_ISDIR(mode)


def list_folder(folder: Path) -> list[Path]:
    """The entries of a folder by name, without hidden ones and Excel's lock files.

    Raises:
        DataError: They cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", LOCK)))
    except OSError as error:
        raise unreadable(folder, error) from error


def check_content(path: Path) -> None:
    """Refuse what is no table by its first bytes.

    Raises:
        DataError: ``path`` is no plain file, is empty, or is of another kind than its name says.
    """
    if is_folder(path):
        raise DataError(f"{path} 是文件夹，这里要一个文件", todo="给出里面的文件。")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise DataError(f"{path} 是空文件", todo="检查导出是否完成。")
    kind, todo = _kind(path, head)
    suffix = path.suffix.lower()
    if kind and suffix not in _EXPECTED.get(kind, ()):
        raise DataError(f"{path} 的内容与后缀不符", expected=f"{suffix} 文件", found=kind, todo=todo)


def _kind(path: Path, head: bytes) -> tuple[str, str]:
    """What the first bytes are, and what to do; empty for text and for what is not known."""
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as book:
                names = book.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return ("", "") if path.suffix.lower() in _EXPECTED["xlsx"] else ("不完整的 zip 文件", "检查导出是否完成。")
        if any(name.startswith("xl/") for name in names):
            return "xlsx", "改名为 .xlsx。"
        if any(name.startswith("word/") for name in names):
            return "Word 文档", "另存为 .csv 或 .xlsx。"
        return "zip 压缩文件", "先解压，再给出里面的文件。"
    return next(((kind, todo) for magic, kind, todo in _MAGIC if head.startswith(magic)), ("", ""))


def is_packed(head: bytes) -> bool:
    """Whether the first bytes are those of a format that is no text: an archive, a workbook, Parquet, a picture."""
    return head.startswith((_ZIP, *(magic for magic, _, _ in _MAGIC)))


def check_whole(path: Path, kind: str) -> None:
    """Refuse a file that must be read whole and is absurdly large, packed or unpacked.

    Args:
        path: The file.
        kind: What to call such a file in the message (Chinese).

    Raises:
        DataError: It is larger than ``MAX_WHOLE``, or ``MAX_UNPACKED`` once unzipped.
    """
    size, limit = path.stat().st_size, MAX_WHOLE
    if size <= limit:
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as book:  # its reader says what is wrong
            size, limit = sum(info.file_size for info in book.infolist()), MAX_UNPACKED
    if size > limit:
        raise DataError(
            f"{path} 太大：{kind} 要整个读进内存",
            expected=f"不超过 {limit >> 20} MB",
            found=f"{size >> 20} MB",
            todo="另存为 .jsonl 或 .csv，它们逐行读，多大都行。",
        )
