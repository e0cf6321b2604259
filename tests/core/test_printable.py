"""Names from strangers' files reach a terminal as text: no colours, no clipboard, no turns, no markup."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import forked
from tests.paths import ROOT
from zhsenti.core.console import plain_console, say, tell
from zhsenti.core.errors import ConfigError, DataError, exit_on_error
from zhsenti.core.printable import printable
from zhsenti.task import SentimentTask

pytestmark = pytest.mark.hostile
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"  # puts a command line on the clipboard
NASTY = f"{CLIPBOARD}\x9b31m\u202eevil[/好][bold]:smile:\x08\r"


@given(st.text())
def test_what_is_printed_holds_no_command_and_loses_nothing_else(text):
    shown = printable(text)
    assert not [char for char in shown if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    if text.isprintable():
        assert shown == text


def test_emoji_with_their_joiners_stay_whole():
    assert printable("👨\u200d👩\u200d👧 好\n\t") == "👨\u200d👩\u200d👧 好\n\t"


def test_every_way_to_the_terminal_goes_through_the_filter(capsys):
    def fails(argv):
        raise DataError(NASTY, found=NASTY)

    say(NASTY)
    tell(NASTY)
    plain_console().print(NASTY)
    exit_on_error(fails)
    out, err = capsys.readouterr()
    for said in (out, err):
        assert "[/好][bold]:smile:" in said
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "\x9b" not in said
        assert "\\x1b]52;c;" in said


def test_labels_and_words_are_printable():
    for labels in (("好\x1b[31m", "坏"), ("好", "坏\u202e"), ("好", "坏\n")):
        with pytest.raises(ConfigError, match="不能有控制字符"):
            SentimentTask(labels=labels)
    assert SentimentTask(labels=("👨\u200d👩\u200d👧", "[/好]")).labels[1] == "[/好]"


def test_commands_print_strangers_names_as_text(tmp_path, tiny_model):
    """Column, file and label of a table that somebody sent."""
    path = tmp_path / f"评论{CLIPBOARD.replace('/', '')}.csv"
    rows = "".join(f"第{n}间房{'很好' if n % 2 else '很差'},{n % 2}\n" for n in range(40))
    path.write_text(f'"text{CLIPBOARD}",label\n{rows}', encoding="utf-8")
    column, model = f"text{CLIPBOARD}", ["--model_name", str(tiny_model), "--max_length", "64"]
    for words in (
        ["audit", str(path), "--text_column", column],
        ["train", "--dataset", str(path), "--text_column", column, *model],
        ["predict", "--input", str(path)],
    ):
        done = forked.run(["-m", "zhsenti", *words], cwd=tmp_path, env={"PATH": "", "PYTHONPATH": str(ROOT)})
        assert "\x1b" not in done.stdout + done.stderr, json.dumps(done.stderr)
        assert "Traceback" not in done.stderr
