"""Wherever a user wants results or looks for a model, a command ends in words."""

from __future__ import annotations

import os

import pytest

from tests.reliability.words import ends_in_words, train
from zhsenti import cli
from zhsenti.audit import command as audit
from zhsenti.prediction import command

PLACES = {
    "/proc": "/proc/x",
    "deep in /proc": "/proc/x/y/z",
    "/sys": "/sys/x",
    "a device": "/dev/null",
    "in a device": "/dev/null/x",
    "a file": "file",
    "in a file": "file/x/y",
    "a loop": "loop",
    "in a loop": "loop/x/y",
    "a dangling link": "dangling",
    "a pipe": "fifo",
    "a long name": "长" * 100,
    "a name a bit too long": "x" * 250,
    "a long path": "a/" * 3000,
    "empty": "",
    "blank": " ",
    "NUL": "a\0b",
    "no home": "~no_such_user/x",
    "half a character": "\udcff",
    "markup": "[red]/[/]",
}


@pytest.mark.parametrize("name", PLACES)
def test_any_place_for_results_ends_in_words(tmp_path, tiny_model, adapter, review_csv, name):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("/nowhere/x")
    os.mkfifo(tmp_path / "fifo")
    place = PLACES[name]
    small = ("--max_train_samples", 16, "--num_epochs", 1, "--precision", "fp32", "--max_length", 64)
    ends_in_words(train, "--dataset", review_csv, "--model_name", tiny_model, *small, "--output_dir", place)
    ends_in_words(audit.main, review_csv, "--output_dir", place)
    for suffix in (".csv", "/a.jsonl"):
        ends_in_words(command.main, "--model_path", adapter, "--input", review_csv, "--output", f"{place}{suffix}")
    for flag in ("--model_path", "--model_name", "--output_dir", "--dataset", "--other_adapters"):
        words = ("evaluate", "--model_path", "no_adapter", flag, place)
        assert ends_in_words(cli.main, *words)[0] == 2
    assert ends_in_words(command.main, "--text", "好", "--model_path", place)[0] == 2
    if name != "no home":
        assert ends_in_words(command.main, "--text", "好", "--model_path", adapter, "--model_name", place)[0] == 2
        assert ends_in_words(train, "--dataset", review_csv, "--model_name", place, "--output_dir", "x")[0] == 2
    more = ("--model_name", tiny_model, "--output_dir", "x", "--resume_from_checkpoint", place)
    assert ends_in_words(train, "--dataset", review_csv, *more)[0] == 2
    for flag in ("--model_path", "--model_name", "--task"):
        assert ends_in_words(audit.main, review_csv, flag, place)[0] == 2
    assert (tmp_path / "file").read_text() == "x"


def test_results_that_are_in_the_way_are_named(tmp_path, review_csv):
    (tmp_path / "audit" / "findings.csv").mkdir(parents=True)
    code, said = ends_in_words(audit.main, review_csv, "--output_dir", "audit")
    assert code == 2
    assert "findings.csv" in said
