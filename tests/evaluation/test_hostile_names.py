"""Names from a table (labels, columns, values) that look like paths or formulas lead nowhere."""

from __future__ import annotations

import csv

from tests.evaluation.whole import run, trained_on
from tests.fakes import BAD, GOOD, KeywordPredictor
from zhsenti.evaluation import command
from zhsenti.task import SentimentTask

LABELS = ("../../差", "/etc/好")
COLUMN = "../../outside"


def test_names_that_look_like_paths_or_formulas_stay_names(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b" / "c"  # room for ../../ to show itself
    folder.mkdir(parents=True)
    lines = [f"text,label,{COLUMN}"]
    for i in range(300):
        word = (BAD, GOOD)[(i % 2) != (i % 11 == 0)][i % 4]
        lines.append(f"=cmd()第{i}间{word},{LABELS[i % 2]},{('=1+1', '../up')[i % 3 == 0]}")
    (folder / "d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = SentimentTask(labels=LABELS)
    trained_on(folder / "adapter", folder / "d.csv", task)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor(task))
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    out = run(folder / "adapter", "--slice_columns", COLUMN, "--baselines", "none", "--challenge", "none")
    new = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert new
    assert {p for p in new if out not in p.parents} <= {folder / "adapter" / "README.md"}
    tables = sorted(out.rglob("*.csv"))
    assert tables
    cells = [c for t in tables for row in csv.reader(t.open(encoding="utf-8-sig", newline="")) for c in row]
    assert any("cmd()" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
