"""A YAML file as a mapping of parameters, read so that no file can hang, blow up or run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhsenti.core.errors import ConfigError
from zhsenti.core.paths import user_path

MAX_BYTES = 1 << 18  # a page is a hundredth of that
MAX_DEPTH = 32


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Aliases (``*name``) are refused: ten lines of them can stand for gigabytes, or for themselves.

    Args:
        path: The file, in UTF-8.

    Returns:
        The values by name; hyphens in the names of the outermost mapping are turned into underscores.

    Raises:
        ConfigError: The file cannot be read or is not such a mapping; it names the file and, where known, the line.
    """
    import yaml

    path = user_path(str(path))
    try:
        text = _small_file(path).decode("utf-8")
        _refuse_depth_and_aliases(path, text)
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"读不了配置文件 {path}", found=error.strerror or str(error), todo="检查路径。") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        raise ConfigError(f"配置文件 {path} 不是合法的 YAML", found=str(error)) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"配置文件 {path} 的最外层要是“键: 值”", found=type(values).__name__)
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _refuse_depth_and_aliases(path: Path, text: str) -> None:
    """Look at the events of the parser, which are made one at a time, before anything is built from them."""
    import yaml

    depth = 0
    event: Any  # its marks are optional in the stubs, not here
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            why = f"嵌套超过 {MAX_DEPTH} 层" if depth > MAX_DEPTH else "用了引用（*）：这里不支持，请把内容写出来"
            raise ConfigError(f"配置文件 {path} 不能用", found=f"第 {event.start_mark.line + 1} 行{why}")


def _small_file(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        OSError: It cannot be read.
        ConfigError: It would block, never end, or fill the memory.
    """
    if "\0" in str(path) or (path.exists() and not path.is_file()):
        raise ConfigError(f"读不了配置文件 {path}", found="不是普通文件", todo="检查路径。")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"配置文件 {path} 太大", expected=f"不超过 {MAX_BYTES >> 10} KB")
    return content
