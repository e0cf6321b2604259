"""Texts that hold nothing to read, and characters that say a text was damaged on its way."""

from __future__ import annotations

from zhsenti.audit.checks.base import AuditOptions, Check, Outcome, counted
from zhsenti.audit.findings import Kind
from zhsenti.audit.rows import Rows
from zhsenti.data.text import suspicious
from zhsenti.task import SentimentTask

EMPTY = Kind("empty", "没有文字", 40)
ODD = Kind("encoding", "可疑字符", 70)


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Look at every character of every text."""
    empty = [rows.finding(EMPTY, i, "只有空白或看不见的字符" if rows.texts[i] else "空") for i in sorted(rows.blank)]
    odd = [rows.finding(ODD, i, "；".join(signs)) for i, text in enumerate(rows.texts) if (signs := suspicious(text))]
    return Outcome(
        findings=[*empty, *odd],
        warnings=[
            *counted(len(empty), "行没有文字（空白或看不见的字符）", EMPTY.rank),
            *counted(len(odd), "行有可疑字符（替换符、乱码、控制或零宽字符）", ODD.rank),
        ],
        fields={"empty": len(empty), "suspicious_characters": len(odd)},
    )


CHARACTERS = Check("字符", (EMPTY, ODD), check)
