"""``zhsenti doctor``: is this machine fit, and what to do about each thing that is not."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from zhsenti.core.flags import option, parse
from zhsenti.core.text_width import cells, wrap
from zhsenti.doctor import accelerator, cache, libraries, machine, network
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, SKIPPED, Check, Finding, guarded, later
from zhsenti.doctor.probe import SECONDS, Imported, probe

MARKS = {OK: "✓ 正常", NOTICE: "! 注意", PROBLEM: "✗ 有问题", SKIPPED: "- 跳过"}
_STYLES = {OK: "green", NOTICE: "yellow", PROBLEM: "bold red", SKIPPED: "dim"}
_INDENT = 10  # cells: the widest mark and two spaces
Show = Callable[[str, str, str], None]  # mark, its style, the rest
EXAMPLES = ("zhsenti doctor", "zhsenti doctor --offline", "zhsenti doctor --json > doctor.json")


@dataclass
class DoctorConfig:
    """``zhsenti doctor``."""

    offline: bool = option(False, "不查网络（各源能否连上）", group="怎么检查")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")


def main(argv: list[str] | None = None) -> int:
    """The command: 0 where nothing is a PROBLEM, else 1."""
    config, _ = parse(DoctorConfig, argv, "检查这台机器能不能用 zhsenti，不能的说明怎么办", examples=EXAMPLES)
    encoding = _printable()
    findings = []
    show, width = (None, 0) if config.json else _console()
    for finding in run(checks(config.offline, encoding)):
        findings.append(finding)
        if show:
            show(MARKS[finding.status], _STYLES[finding.status], rest(finding, width))
    if show is None:
        print(json.dumps({"checks": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    else:
        show("", "", _summary(findings))
    return 1 if any(finding.status == PROBLEM for finding in findings) else 0


def checks(offline: bool, encoding: str) -> list[tuple[str, Check]]:
    """Name and function of each check, quick ones first; what takes long is begun here and asked for at the end.

    Args:
        offline: Leave out whether the sources of models answer.
        encoding: What standard output was set to.
    """
    reach = None if offline else network.Reach()
    imported = later(probe)
    driver = later(accelerator.driver)

    def cards(results: Mapping[str, Imported]) -> Iterable[Finding]:
        return accelerator.gpu(results["torch"], driver.result(), results["bitsandbytes"])

    def libraries_of(check: Callable[[Mapping[str, Imported]], Iterable[Finding]]) -> Iterable[Finding]:
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
        ("torch", lambda: libraries_of(lambda results: accelerator.torch(results["torch"]))),
        ("显卡", lambda: libraries_of(cards)),
        ("导入", lambda: libraries_of(libraries.imports)),
        ("中文字体", lambda: libraries_of(libraries.font)),
    ]


def run(listed: list[tuple[str, Check]]) -> Iterator[Finding]:
    """Findings as they come."""
    for name, check in listed:
        yield from guarded(name, check)


def _summary(findings: list[Finding]) -> str:
    """How many of each kind, and the line to type next."""
    count = Counter(finding.status for finding in findings)
    kinds = "，".join(f"{count[status]} 项{mark.split()[1]}" for status, mark in MARKS.items() if count[status])
    if count[PROBLEM]:
        return f"\n{kinds}。先处理 ✗ 的各项。\n下一步：照上面的 → 做完，再运行 zhsenti doctor"
    ready = "；! 的各项按需要处理。" if count[NOTICE] else "。"
    return f"\n{kinds}。可以用了{ready}\n下一步：zhsenti train"


# ── what it looks like ────────────────────────────────────────────────────────────────────────────────────────────


def _printable() -> str:
    """Make standard output take any text (odd paths, ✓ on a GBK console).

    Returns:
        The encoding it was set to.
    """
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
        lines += wrap(f"→ {finding.todo}", width - _INDENT)
    gap = " " * (_INDENT - cells(MARKS[finding.status]))
    return gap + f"\n{' ' * _INDENT}".join(lines)
