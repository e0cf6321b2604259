"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.paths import ROOT

PAGE = ROOT / "docs" / "reliability.md"

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^\]`]*\])?`")


def table_rows(text: str) -> list[str]:
    """Rows of the tables of faults, without heads and rules."""
    tables = re.findall(r"^\| 故障 .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [line for table in tables for line in table.splitlines()]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_on_the_page_names_tests_that_exist():
    text = PAGE.read_text(encoding="utf-8")
    rows = table_rows(text)
    assert len(rows) >= 90
    assert not [row for row in rows if not NAMED.search(row)], "a row without a test"
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert {len(row) for row in cells} == {3, 4}
    assert all(cell.strip() for row in cells for cell in row)
    named = set(NAMED.findall(text))
    assert len(named) >= 80
    missing = [f"{file}::{test}" for file, test in sorted(named) if not (ROOT / file).is_file()]
    missing += [f"{file}::{test}" for file, test in sorted(named) if test not in names_in(ROOT / file)]
    assert not missing
    assert text.count("::") == len(NAMED.findall(text)), "a test that is not spelt out"
