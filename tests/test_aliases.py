"""The scripts that users were promised: what an alias says holds unless the user or a YAML says otherwise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from zhsenti.evaluation import command

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


class Stop(Exception):
    pass


@pytest.fixture
def evaluated(monkeypatch):
    """Runs scripts/evaluate.py up to where it would load anything; returns the settings."""

    def stop(config, line, kinds):
        raise Stop(config)

    def run(*words):
        monkeypatch.setattr(sys, "argv", [str(SCRIPTS / "evaluate.py"), *words])
        with pytest.raises(Stop) as stopped:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return stopped.value.args[0]

    monkeypatch.setattr(command, "evaluate", stop)
    return run


def test_scores_alone_unless_a_yaml_or_a_flag_asks_for_more(evaluated, tmp_path, capsys):
    plain = evaluated()
    assert (plain.report, plain.baselines) == (False, "none")
    assert "命令行" not in capsys.readouterr().err, "nobody typed anything"
    (tmp_path / "c.yaml").write_text("report: true\nbaselines: majority\n", encoding="utf-8")
    of_yaml = evaluated("--config", str(tmp_path / "c.yaml"))
    assert (of_yaml.report, of_yaml.baselines) == (True, "majority")
    typed = evaluated("--config", str(tmp_path / "c.yaml"), "--baselines", "tfidf")
    assert (typed.report, typed.baselines) == (True, "tfidf")
