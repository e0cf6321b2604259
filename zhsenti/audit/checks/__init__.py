"""The checks of an audit, in the order in which they are made: each is a file here and a line below."""

from __future__ import annotations

from zhsenti.audit.checks.base import Check
from zhsenti.core.registry import Registry

CHECKS: Registry[Check] = Registry(
    "审计项",
    {
        "characters": "zhsenti.audit.checks.characters:CHARACTERS",
        "lengths": "zhsenti.audit.checks.lengths:LENGTHS",
        "labels": "zhsenti.audit.checks.labels:LABELS",
        "same_texts": "zhsenti.audit.checks.same_texts:SAME_TEXTS",
        "shortcuts": "zhsenti.audit.checks.shortcuts:SHORTCUTS",
        "doubts": "zhsenti.audit.checks.doubts:DOUBTS",
    },
)
