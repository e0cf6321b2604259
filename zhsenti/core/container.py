"""What a container lets its processes use: Linux control groups, in both of their versions."""

from __future__ import annotations

from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
# Limit and use of memory, in version 2 and in version 1.
MEMORY = (
    (_GROUPS / "memory.max", _GROUPS / "memory.current"),
    (_GROUPS / "memory" / "memory.limit_in_bytes", _GROUPS / "memory" / "memory.usage_in_bytes"),
)


def memory_limit() -> tuple[int, int] | None:
    """Limit and use of this container's memory in bytes, or None without a limit."""
    for files in MEMORY:
        try:
            limit, used = (int(path.read_text()) for path in files)
        except (OSError, ValueError):  # not this version, or no limit ("max")
            continue
        return limit, used
    return None
