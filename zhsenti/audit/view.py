"""An audit for people: tables on the console, and what the page's section shows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rich import box
from rich.table import Table

from zhsenti.audit.findings import Audit, Finding, masked, shown
from zhsenti.core.console import plain_console, tell

SHOWN = 15  # findings of a kind on the page; all of them are in findings.csv
_ABOUT_TEXT = 160


@dataclass(frozen=True)
class Group:
    """Findings of one kind.

    Attributes:
        kind: Its name.
        title: Its title (Chinese).
        n: How many there are.
        findings: The first ``SHOWN`` of them, the worst where they are ranked.
    """

    kind: str
    title: str
    n: int
    findings: list[Finding]


@dataclass(frozen=True)
class AuditView:
    """An audit as the page shows it.

    Attributes:
        facts: The audit without its findings.
        groups: The findings by kind, the worst kinds first.
    """

    facts: Audit
    groups: list[Group]


def audit_view(audit: Audit) -> AuditView:
    """Choose what the page shows, with long numbers masked: pages are passed on."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in audit.findings:
        by_kind[finding.kind].append(finding)
    groups = [
        Group(kind, findings[0].title, len(findings), [_short(finding) for finding in findings[:SHOWN]])
        for kind, findings in by_kind.items()
    ]
    return AuditView(audit.model_copy(update={"findings": []}), groups)


def _short(finding: Finding) -> Finding:
    return finding.model_copy(update={"text": shown(masked(finding.text), _ABOUT_TEXT)})


def show(audit: Audit) -> None:
    """Print on standard output: tables that fit 80 columns, then the warnings, worst first."""
    console = plain_console()
    console.print(_splits_table(audit))
    counts, titles = audit.counts(), {finding.kind: finding.title for finding in audit.findings}
    if counts:
        table = Table(box=box.HORIZONTALS, pad_edge=False)
        table.add_column("发现")
        table.add_column("处数", justify="right")
        for kind, n in counts.items():
            table.add_row(titles[kind], f"{n}")
        console.print(table)
    for place, warning in enumerate(audit.warnings, start=1):
        tell(f"{place}. {warning}")
    if not audit.warnings:
        tell("没有发现问题。")
    for split in audit.splits:
        if split.note:
            tell(f"说明：{split.name} {split.note}")
    for note in audit.notes:
        tell(f"说明：{note}")


def _splits_table(audit: Audit) -> Table:
    measured = audit.splits[0].tokens.measured
    table = Table(box=box.HORIZONTALS, pad_edge=False, collapse_padding=True)
    table.add_column("部分", overflow="fold")
    table.add_column("条数", justify="right")
    table.add_column("标签", overflow="fold")
    table.add_column("重复\n近似", justify="right")
    table.add_column("token" + ("" if measured else "（估计）") + "\n中位/95%/最长", justify="right")
    table.add_column(f"超过\n{audit.splits[0].tokens.max_length}", justify="right")
    for split in audit.splits:
        labels = "  ".join(f"{label} {n}" for label, n in split.labels.items()) if split.labelled else "没有标签列"
        stats = split.tokens
        table.add_row(
            split.name,
            f"{split.n}",
            labels,
            f"{audit.repeated[split.name]}\n{audit.near_repeated[split.name]}",
            f"{stats.median:.0f} / {stats.p95:.0f} / {stats.max}",
            f"{stats.n_over}",
        )
    return table
