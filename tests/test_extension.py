"""A command from outside the package: one module and one line in the table."""

from __future__ import annotations

from zhsenti import cli

MODULE = """
from dataclasses import dataclass

from zhsenti.core.flags import option, parse


@dataclass
class CountConfig:
    text: str = option("", "数这一句有几个字", free=True)


def main(argv=None):
    config, _ = parse(CountConfig, argv, "数一句话有几个字")
    print(len(config.text))
    return 0
"""


def test_a_command_is_a_module_and_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "our_count.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "count", ("our_count:main", "数字数"))
    assert cli.main(["count", "--text", "房间很干净"]) == 0
    assert capsys.readouterr().out == "5\n"
    assert cli.main(["--help"]) == 0
    assert "数字数" in capsys.readouterr().out
