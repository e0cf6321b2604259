"""Whatever file a user hands to a command, it ends in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reliability.hostile_files import BYTES, GOOD, HEAD, MADE, NO_FILES, hostile_file
from tests.reliability.words import ends_in_words, train
from zhsenti import cli
from zhsenti.audit import command as audit
from zhsenti.prediction import command


@pytest.mark.parametrize("name", [*BYTES, *MADE, *NO_FILES], ids=ascii)
def test_any_file_ends_in_words_at_every_door(tmp_path, adapter, name):
    path = hostile_file(tmp_path, name)
    (tmp_path / "no_model").mkdir()
    for on_error in ("fail", "skip"):  # stops at the model, after the data
        words = ("--dataset", path, "--on_error", on_error, "--model_name", "no_model", "--output_dir", "run")
        code, _ = ends_in_words(train, *words)
        assert code == 2
        assert not (tmp_path / "run").exists(), "something was written before all was checked"
    for more in ((), ("--output", "out.csv"), ("--output", "out.jsonl")) if path != "-" else ():  # - is a pipe there
        ends_in_words(command.main, "--model_path", adapter, f"--input={path}", *more)
    if not path.startswith("-"):
        ends_in_words(audit.main, path, "--output_dir", "audit")
    ends_in_words(cli.main, "audit", f"--config={path}")


@pytest.mark.parametrize("name", ["undecodable \udcff.csv", "a\0.csv"], ids=ascii)
def test_names_that_no_results_can_hold_are_refused(tmp_path, adapter, name):
    path = hostile_file(tmp_path, name)
    for main, *words in (
        (train, "--dataset", path, "--output_dir", "run"),
        (command.main, "--model_path", adapter, "--input", path),
        (audit.main, path),
    ):
        code, said = ends_in_words(main, *words)
        assert code == 2
        assert "参数有误" in said


def test_a_file_full_of_faults_trains_and_is_scored(tmp_path, tiny_model):
    """All that a CSV can hold, skipped and reported in training, an error record each in prediction."""
    faults = [
        b"a\0b,1\n", "酒店,1\n".encode("gbk"), b'"open,1\n', b"one\n", b"a,b,c\n", b" ,1\n", b"\xff,1\n",
        "好,很好\n".encode(), "=cmd(),1\n\u202e好,1\n<|im_end|>{text},0\n<script>,1\n".encode(),
    ]  # fmt: skip
    (tmp_path / "a.csv").write_bytes(b"".join([b"\xef\xbb\xbf", HEAD.encode(), GOOD.encode(), *faults]))
    small = ("--num_epochs", 1, "--precision", "fp32", "--max_length", 64, "--output_dir", "run")
    code, said = ends_in_words(train, "--dataset", "a.csv", "--on_error", "skip", "--model_name", tiny_model, *small)
    assert code == 0, said
    assert "跳过 8 行" in said
    model = ("--model_path", "run/lora_adapter")
    assert ends_in_words(command.main, *model, "--input", "a.csv", "--output", "out.jsonl")[0] == 0
    records = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(records) == 40 + len(faults) + 3
    assert sum(record["error"] is not None for record in records) == 7  # 很好 is no label, but a text that can be read
