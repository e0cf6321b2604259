"""Where an export goes: what it must not replace, and whether there is room."""

from __future__ import annotations

from pathlib import Path

from zhsenti.core.errors import ConfigError
from zhsenti.core.files import check_writable, require_space

MARK = "zhsenti_export.json"  # the last file of an export: the mark that it is whole
REST_BYTES = 5e7  # of what is not weights
MARGIN = 1.1


def check_output(output: Path, adapter: Path) -> None:
    """See that the folder ``output`` may be written, or replaced by the export of ``adapter``.

    Raises:
        ConfigError: It is something that an export must not replace, or it cannot be written.
    """
    check_kept(output, adapter, "适配器")
    if adapter.resolve() in output.resolve().parents:
        raise ConfigError(
            f"不能导出到 {output}",
            found=f"它在适配器的文件夹 {adapter} 里，那里不能有别的文件",
            todo="换一个 --output。",
        )
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file()):
        raise ConfigError(
            f"{output} 已经存在，而且不是导出的模型",
            expected=f"不存在、空的，或含 {MARK} 的文件夹",
            todo="换一个 --output，或先移走它。",
        )
    check_writable(output, "--output")


def check_kept(output: Path, folder: Path, contents: str) -> None:
    """See that ``folder`` outlives the export.

    Args:
        output: What the export replaces.
        folder: What must stay.
        contents: What lies in it, in Chinese.

    Raises:
        ConfigError: ``output`` is ``folder`` or holds it.
    """
    if output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ConfigError(
            f"不能导出到 {output}", found=f"{contents}在这里（{folder}），会被换掉", todo="换一个 --output。"
        )


def check_room(output: Path, bytes_per_weight: float, base: Path) -> None:
    """See that the disk holds what will be written, going by the size of the base's files.

    Args:
        output: Where the export goes.
        bytes_per_weight: What ``Format.room`` says.
        base: The base's folder.

    Raises:
        ConfigError: It does not.
    """
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    weights = stored / 2  # bases are bfloat16 or float16; a float32 one is counted twice
    needed = weights * bytes_per_weight * MARGIN + REST_BYTES
    require_space(output, needed, ConfigError, f"{output} 所在的磁盘空间不够", "腾出空间，或换一个 --output。")
