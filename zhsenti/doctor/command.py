"""``zhsenti doctor``: is this machine fit, and what to do about each thing that is not."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

from zhsenti.core.flags import parse
from zhsenti.doctor import accelerator, cache, libraries, machine, network
from zhsenti.doctor.config import DoctorConfig
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, SKIPPED, Check, Finding, guarded, later
from zhsenti.doctor.probe import SECONDS, probe

MARKS = {OK: "✓ 正常", NOTICE: "! 注意", PROBLEM: "✗ 有问题", SKIPPED: "- 跳过"}
_STYLES = {OK: "green", NOTICE: "yellow", PROBLEM: "bold red", SKIPPED: "dim"}
_INDENT = 10  # cells: the widest mark and two spaces
Show = Callable[[str, str, str], None]  # mark, its style, the rest


def main(argv: list[str] | None = None) -> int:
    """0 where nothing is a PROBLEM, else 1."""
    config, _ = parse(DoctorConfig, argv, "检查这台机器能不能用 zhsenti，不能的说明怎么办")
    encoding = _printable()
    found = []
    show, width = (None, 0) if config.json else _console()
    for finding in run(checks(config.offline, encoding)):
        found.append(finding)
        if show:
            show(MARKS[finding.status], _STYLES[finding.status], rest(finding, width))
    if show is None:
        print(json.dumps({"checks": [asdict(finding) for finding in found]}, ensure_ascii=False))
    else:
        show("", "", _summary(found))
    return 1 if any(finding.status == PROBLEM for finding in found) else 0


def checks(offline: bool, encoding: str) -> list[tuple[str, Check]]:
    """Name and function of each check, quick ones first; what takes long is begun here and asked for at the end."""
    reach = None if offline else network.Reach()
    imported = later(probe)
    driver = later(accelerator.driver)

    def libraries_of(check: Callable) -> Iterator[Finding]:
        return check(imported.result(timeout=2 * SECONDS))

    return [
        ("Python", machine.python),
        ("依赖", libraries.versions),
        ("内存", machine.memory),
        ("磁盘", machine.disks),
        ("系统限制", machine.limits),
        ("编码", partial(machine.encodings, encoding)),
        ("W&B", network.wandb),
        ("网络设置", network.settings),
        ("缓存（数据）", cache.datasets),
        ("缓存（模型）", cache.models),
        ("网络", (lambda: network.reachable(reach.answers())) if reach else network.skipped),
        ("torch", lambda: libraries_of(lambda found: accelerator.torch(found["torch"]))),
        ("显卡", lambda: libraries_of(lambda found: accelerator.gpu(found["torch"], driver.result()))),
        ("导入", lambda: libraries_of(libraries.imports)),
        ("中文字体", lambda: libraries_of(libraries.font)),
    ]


def run(listed: list[tuple[str, Check]]) -> Iterator[Finding]:
    """Findings as they come."""
    for name, check in listed:
        yield from guarded(name, check)


def _summary(found: list[Finding]) -> str:
    count = Counter(finding.status for finding in found)
    said = "，".join(f"{count[status]} 项{mark.split()[1]}" for status, mark in MARKS.items() if count[status])
    if count[PROBLEM]:
        return f"\n{said}。先处理 ✗ 的各项。"
    return f"\n{said}。可以用了" + ("；! 的各项按需要处理。" if count[NOTICE] else "。")


# ── what it looks like ────────────────────────────────────────────────────────────────────────────────────────────


def _printable() -> str:
    """Make standard output take any text (odd paths, ✓ on a GBK console); returns the encoding it was set to."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if hasattr(sys.stdout, "reconfigure"):
        try:
            "正常".encode(encoding)
            sys.stdout.reconfigure(errors="replace")
        except UnicodeEncodeError:  # ASCII: nothing that follows could be read
            sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    return encoding


def _console() -> tuple[Show, int]:
    """How to show a line and the terminal's width; plain where rich itself is missing or broken."""
    try:
        from rich.console import Console
        from rich.text import Text
    except Exception:
        return lambda mark, _, text: print(mark + text, flush=True), shutil.get_terminal_size().columns
    console = Console(highlight=False)
    return lambda mark, style, text: console.print(Text(mark, style) + Text(text), soft_wrap=True), console.width


def rest(finding: Finding, width: int) -> str:
    """All after the mark: name and finding, then what to do, wrapped and indented under the name."""
    lines = wrap(f"{finding.name}：{finding.found}", width - _INDENT)
    if finding.todo:
        lines += [f"{line}" for line in wrap(f"→ {finding.todo}", width - _INDENT)]
    gap = " " * (_INDENT - cells(MARKS[finding.status]))
    return gap + f"\n{' ' * _INDENT}".join(lines)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells: broken at spaces and between Chinese characters, never before punctuation;
    words, paths and commands stay whole where they fit.
    """
    lines, line = [], ""
    for piece in re.findall(r"\s+|[（“]*(?:[!-~]+|.)[，。；：、）”]*", text):
        if line and cells(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
        while cells(line.rstrip()) > width:  # one word longer than a line
            cut = next(n for n in range(len(line), 0, -1) if cells(line[:n]) <= width or n == 1)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line.rstrip()] if line.strip() else lines


def cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
