"""A check from outside the package: one file, one line, and its findings are wherever findings are."""

from __future__ import annotations

import csv
import json

import pytest

from tests.audit.auditing import TASK, split
from zhsenti.audit import command
from zhsenti.audit.checks import CHECKS
from zhsenti.audit.checks.base import Check, Outcome, Warned
from zhsenti.audit.findings import Kind
from zhsenti.audit.run import audit

SHOUTS = Kind("shouts", "喊叫")
ROWS = [(f"第{i}次住，{'很好' if i % 2 else '很差！！！'}", i % 2) for i in range(20)]


def find_shouts(rows, task, options) -> Outcome:
    loud = [i for i, text in enumerate(rows.texts) if text.endswith("！！！")]
    return Outcome(
        findings=[rows.finding(SHOUTS, i, f"{rows.texts[i].count('！')} 个感叹号") for i in loud],
        warnings=[Warned(f"{len(loud)} 行在喊叫")],
        notes=["只看句末的感叹号"],
    )


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(CHECKS, "shouts", Check("语气", (SHOUTS,), find_shouts))


@pytest.mark.usefixtures("toy")
def test_its_findings_are_in_csv_json_console_and_page(tmp_path, capsys):
    path, out = tmp_path / "reviews.csv", tmp_path / "out"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *ROWS])
    assert command.main([str(path), "--output_dir", str(out)]) == 0

    with (out / "findings.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] == "shouts"]
    assert [(row["title"], row["row"], row["detail"]) for row in rows] == [
        ("喊叫", str(i + 1), "3 个感叹号") for i in range(0, 20, 2)
    ]
    saved = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert saved["warnings"][-1] == "10 行在喊叫"
    assert "只看句末的感叹号" in saved["notes"]
    assert sum(finding["kind"] == "shouts" for finding in saved["findings"]) == 10
    said = capsys.readouterr().out
    assert any(line.split() == ["喊叫", "10"] for line in said.splitlines())
    assert "10 行在喊叫" in said
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "喊叫：10 处" in page
    assert "<li>10 行在喊叫</li>" in page

    assert command.main([str(path), "--json", "--output_dir", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["findings"]["shouts"] == 10


@pytest.mark.parametrize(("rank", "place"), [(0, 0), (1000, -1)])
def test_its_rank_decides_where_it_stands(monkeypatch, rank, place):
    kind = SHOUTS._replace(rank=rank)

    def run(rows, task, options) -> Outcome:
        return Outcome([rows.finding(kind, 0)], [Warned("喊叫", rank)])

    monkeypatch.setitem(CHECKS, "shouts", Check("语气", (kind,), run))
    result = audit([split("train", [*ROWS, ROWS[0], ("", 1)])], TASK)
    assert len(result.warnings) > 2
    assert result.warnings[place] == "喊叫"
    assert result.findings[place].kind == "shouts"
    assert list(result.counts())[place] == "shouts"


@pytest.mark.usefixtures("toy")
def test_each_check_is_a_stage():
    stages = []
    audit([split("train", ROWS)], TASK, command.AuditOptions(stage=stages.append))
    assert stages == [CHECKS.load(name).title for name in CHECKS]
    assert stages[-1] == "语气"


def test_names_of_kinds_are_used_once():
    names = [kind.name for name in CHECKS for kind in CHECKS.load(name).kinds]
    assert len(names) == len(set(names))
