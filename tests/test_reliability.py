"""docs/reliability.md names tests that exist; and whatever a user hands to a command, it ends in words.

The sweep goes through the real command lines: exit code 0 or 2, no traceback, nothing that hangs, valid UTF-8.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from tests.data.files import write_xlsx
from tests.models.test_hostile import save_adapter
from zhsenti import cli
from zhsenti.artifact import seal
from zhsenti.audit import command as audit
from zhsenti.core import files
from zhsenti.core.errors import exit_on_error
from zhsenti.core.hashing import json_sha256
from zhsenti.prediction import command
from zhsenti.training import command as training
from zhsenti.training.checkpoints import MARK, SECTIONS, checkpoints, read_mark

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
SECONDS = 60  # what takes longer hangs


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────

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


# ── the sweep ─────────────────────────────────────────────────────────────────────────────────────────────────────

train = training.main


class Hangs(BaseException):
    """No Exception: nothing may take it for a fault of its own."""


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends_in_words(main: Callable[[list[str]], int], *words: object) -> tuple[int, str]:
    """Exit code and what a person read. Streams are as Python opens them: stdout refuses what is no UTF-8."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), no_longer_than(SECONDS):
        code = exit_on_error(main, [str(word) for word in words])
    said = err.buffer.getvalue().decode("utf-8")
    out.buffer.getvalue().decode("utf-8")
    assert "Traceback" not in said
    assert code in (0, 2), said
    assert ("错误：" in said) == (code == 2), said
    return code, said


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return save_adapter("label_scoring", tiny_model, tmp_path_factory.mktemp("adapter") / "lora_adapter")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A relative path that should have been refused is written where it harms nobody."""
    monkeypatch.chdir(tmp_path)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = "".join(f"第{i}家酒店{'很好' if i % 2 else '很差'},{i % 2}\n" for i in range(40))
HEAD = "text,label\n"
BYTES = {
    "BOM.csv": b"\xef\xbb\xbf" + (HEAD + GOOD).encode(),
    "GBK.csv": (HEAD + GOOD).encode("gbk"),
    "UTF-16.csv": (HEAD + GOOD).encode("utf-16"),
    "cut UTF-16.csv": (HEAD + GOOD).encode("utf-16")[:-1],
    "mixed.csv": (HEAD + GOOD).encode() + "酒店,1\n".encode("gbk"),
    "NUL.csv": (HEAD + GOOD).encode() + b"a\0b,1\n",
    "control.csv": (HEAD + GOOD).encode() + b"a\x01\x1b[31mb,1\n",
    "zero width.csv": (HEAD + GOOD + "\u200b\u2060,1\n好\u200b,1\n").encode(),
    "surrogate.jsonl": b'{"text": "\\ud83d", "label": 1}\n{"text": "\\udc00 a", "label": 0}\n' * 20,
    "bidi.csv": (HEAD + GOOD + "\u202e好\u202c,1\n").encode(),
    "ZWJ.csv": (HEAD + GOOD + "👩\u200d👩\u200d👧,1\n").encode(),
    "long line.csv": (HEAD + GOOD).encode() + b"x" * (17 << 20) + b",1\n",
    "open quote.csv": (HEAD + '"好,1\n' + GOOD).encode(),
    "ragged.csv": (HEAD + GOOD + "好\n好,1,2\n").encode(),
    "columns twice.csv": ("text,text,label\n" + GOOD.replace(",", ",好,")).encode(),
    "no column.csv": b"a,b\n1,2\n",
    "header.csv": HEAD.encode(),
    "empty.csv": b"",
    "label.csv": (HEAD + GOOD.replace(",1", ",1.0")).encode(),
    "labels.csv": (HEAD + GOOD + "好,很好\n坏,\n").encode(),
    "gzip.csv": gzip.compress((HEAD + GOOD).encode()),
    "gzip.csv.gz": gzip.compress((HEAD + GOOD).encode()),
    "random.csv": bytes(range(256)) * 4,
    "random.parquet": bytes(range(256)) * 4,
    "random.xlsx": b"PK\x03\x04" + bytes(range(256)),
    "random.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(range(256)) * 8,
    "deep.json": b"[" * 100_000,
    "deep.jsonl": b'{"text":' * 100_000 + b"\n",
    "number.jsonl": b'{"text": ' + b"9" * 5000 + b"}\n",
    "infinite.json": b'[{"text": Infinity, "label": NaN}]',
    "null.jsonl": b"null\n" * 10,
    "one class.csv": (HEAD + "好,1\n" * 40).encode(),
    "=cmd()!A0.csv": (HEAD + GOOD + "=cmd|' /C calc'!A0,1\n").encode(),
    "<script>.csv": (HEAD + GOOD + "<script>alert(1)</script>{text}{{7*7}}<|im_end|>,1\n").encode(),
    "[red]rich[/].csv": (HEAD + GOOD + "[/] [link=x]好[/link],1\n").encode(),
    "a\nb.csv": (HEAD + GOOD).encode(),
}  # fmt: skip


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("a.csv", HEAD)


def make_merged(path: Path) -> None:
    rows = [tuple(line.split(",")) for line in GOOD.splitlines()]
    write_xlsx(path, [("text", "label"), ("合并", 1), ("", 1), (7, 1.0), *rows], merged="A2:A3")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


MADE: dict[str, Callable[[Path], object]] = {
    "zip.csv": make_zip,
    "merged.xlsx": make_merged,
    "workbook.csv": make_merged,
    "fifo.csv": os.mkfifo,
    "loop.csv": make_loop,
    "dangling.csv": lambda path: path.symlink_to("nowhere"),
    "folder.csv": Path.mkdir,
    "undecodable \udcff.csv": lambda path: path.write_bytes((HEAD + GOOD).encode()),
}
NO_FILES = [
    "", " ", ".", "/", "no.csv", "a\0.csv", "长" * 200 + ".csv", "a/" * 3000 + "a.csv", "~no_such_user/a.csv",
    "/dev/null", "/dev/zero", "/dev/full", "/dev/stdin", "/proc/self/mem", "/proc/self/fd", "/proc/1/root/a.csv",
    "no.csv/x.csv", "-", "--", "file:///etc/passwd",
    "http://127.0.0.1:9/a.csv", "../" * 40 + "etc/passwd", "\udcff.csv",
]  # fmt: skip


def hostile_file(folder: Path, name: str) -> str:
    if name in {**BYTES, **MADE}:
        (folder / name).parent.mkdir(exist_ok=True)
    if name in BYTES:
        (folder / name).write_bytes(BYTES[name])
    elif name in MADE:
        MADE[name](folder / name)
    else:
        return name
    return str(folder / name)


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


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
YAMLS: dict[str, bytes | Callable[[Path], object]] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "NUL": b"dataset: a\0b\n",
    "written NUL": b'dataset: "a\\0b"\ntask: "a\\0b"\noutput_dir: "a\\0b"\n',
    "surrogates": b'dataset: "\\ud800"\n',
    "UTF-16": "dataset: 好\n".encode("utf-16"),
    "GBK": "dataset: 好\n".encode("gbk"),
    "recursive": b"task: &t {labels: *t, words: *t, aliases: *t, template: *t}\n",
    "a list in itself": b"task: {labels: &l [*l, *l], words: *l}\nbatch_size: *l\n",
    "laughs": (LAUGHS + "task: {labels: *j}\nbatch_size: *j\nfiles: *j\ntext: *j\n").encode(),
    "merges": b"a: &a {x: 1}\n" + b"".join(
        b"%c: &%c {<<: [%s]}\n" % (b, b, b", ".join([b"*%c" % a] * 9))
        for a, b in zip(b"abcdefghi", b"bcdefghij", strict=True)
    ),
    "deep": b"task: " + b"[" * 20_000,
    "deep maps": b"{task: " * 5_000,
    "huge": b"# x\n" * (4 << 20),
    "a huge number": b"batch_size: " + b"9" * 5000 + b"\nseed: 1e999\n",
    "no date": b"run_name: 2020-13-45\n",
    "code": b"task: !!python/object/apply:os.system [touch owned]\n",
    "two documents": b"seed: 1\n---\nseed: 2\n",
    "a text": b"just a text\n",
    "a list": b"- a\n",
    "lists for all": b"seed: [1]\ntask: [1]\ndataset: [a]\nfsdp: {a: 1}\nmemory_budget: [[]]\nlearning_rate: {}\n",
    "nothing for all": b"seed:\nlearning_rate: ~\nprecision: null\nbatch_size:\nfsdp: ~\ntext: ~\n",
    "task: a number": b"task: 5\n",
    "task: a date": b"task: 2020-01-01\n",
    "task: labels a text": "task: {labels: 正负}\n".encode(),
    "task: labels a number": b"task: {labels: 5}\n",
    "task: labels of lists": b"task: {labels: [[a], {b: c}]}\n",
    "task: template a number": b"task: {template: 5}\n",
    "task: template a list": b"task: {template: ['{text}']}\n",
    "task: aliases a list": b"task: {aliases: [a]}\n",
    "task: aliases of numbers": "task: {aliases: {正面: 5}}\n".encode(),
    "task: length a text": b"task: {max_length: x}\n",
    "task: length a fraction": b"task: {max_length: 64.5}\n",
    "task: share a text": b"task: {head_share: x}\n",
    "task: share NaN": b"task: {head_share: .nan}\n",
    "task: thousands of labels": b"task: {labels: [" + b"a, " * 2_000 + b"b]}\n",
    "task: surrogates": b'task: {labels: ["\\ud800", b], template: "\\udc00{text}"}\n',
    "task: NUL": b'task: {labels: ["a\\0", b], template: "a\\0{text}"}\n',
    "task: another file": b"task: folder\n",
    "keys of all kinds": b"1: 2\n~: 3\n? [a]\n: b\n",
    "itself": b"config: a.yaml\n",
    "folder": Path.mkdir,
    "fifo": os.mkfifo,
    "loop": make_loop,
    "dangling": lambda path: path.symlink_to("nowhere"),
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
}  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_any_yaml_ends_in_words(tmp_path, review_csv, name):
    path, content = tmp_path / "a.yaml", YAMLS[name]
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    (tmp_path / "no_model").mkdir()
    for flag in ("--config", "--task"):
        stop = ("--model_name", "no_model", "--output_dir", "run", flag, path)
        assert ends_in_words(train, "--dataset", review_csv, *stop)[0] == 2
    ends_in_words(audit.main, review_csv, "--output_dir", "audit", "--task", path)
    ends_in_words(audit.main, "no.csv", "--config", path)
    assert ends_in_words(command.main, "--model_path", "no_adapter", "--config", path)[0] == 2
    assert ends_in_words(cli.main, "evaluate", "--model_path", "no_adapter", "--config", path)[0] == 2
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "run").exists()


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


def test_results_that_are_in_the_way_are_named(tmp_path, review_csv, adapter):
    (tmp_path / "audit" / "findings.csv").mkdir(parents=True)
    code, said = ends_in_words(audit.main, review_csv, "--output_dir", "audit")
    assert code == 2
    assert "findings.csv" in said


VALUES = {
    "memory_budget": ["", "x", "-1GB", "1e400GB", "9" * 400 + "GB", "nan", "0", "1", "1B", "٣GB", "\0"],
    "num_epochs": ["1e308", "1e18", "1e-300", "nan", "inf", "-1", "x", "", "9" * 5000],
    "batch_size": ["1e300", "9" * 400, "0", "1.5", "x", "٣"],
    "gradient_accumulation_steps": ["1e300", "2147483648"],
    "learning_rate": ["1e308", "1e-320", "-1", "nan"],
    "lora_r": ["1e300", "1000000000", "65537", "0"],
    "lora_alpha": ["1e300"],
    "lora_target_modules": ["", ",", "(", "lm_head", "all", "*", "q_proj,,", "\0", "x" * 10_000],
    "max_length": ["1e300", "16", "1000000000", "15"],
    "max_train_samples": ["1", "1e300", "-1"],
    "max_dev_samples": ["1", "1e300"],
    "eval_steps": ["1e300"],
    "logging_steps": ["1e300"],
    "early_stopping": ["1e300"],
    "save_total_limit": ["1e300", "9" * 400],
    "num_processes": ["1e300", "0"],
    "warmup_ratio": ["1", "1e-300", "2"],
    "weight_decay": ["1e308"],
    "max_grad_norm": ["1e308", "0"],
    "seed": ["4294967295", "4294967296", "-1"],
    "text_column": ["", "no", "\0", "label", "\ud800"],
    "label_column": ["text", "no"],
    "run_name": ["../../x", "<script>", "\udcff", "x" * 5000],
    "precision": ["int8", "fp16", ""],
    "fsdp": ["true", "x"],
}
SETTINGS = [(name, value) for name, values in VALUES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=[f"{n}-{ascii(v)[:20]}" for n, v in SETTINGS])
def test_any_value_ends_in_words(tmp_path, tiny_model, review_csv, name, value):
    small = {
        "dataset": review_csv, "model_name": tiny_model, "precision": "fp32", "max_length": 64, "output_dir": "run",
        "max_train_samples": 16, "max_dev_samples": 8, "num_epochs": 1, "batch_size": 16,
    }  # fmt: skip
    words = [f"--{key}={setting}" for key, setting in {**small, name: value}.items()]
    ends_in_words(train, *words)


@pytest.mark.parametrize(
    "words",
    [
        [], ["--"], ["--no_such"], ["--lora_r"], ["--lora_r", "--seed"], ["x"], ["\0"], ["\udcff"], ["--\udcff=1"],
        ["--text"], ["--text", ""], ["--text", "\0"], ["--text", "\ud83d"], ["--text", " \u200b"], ["--json"],
        ["--config"], ["--config="], ["--on_error=maybe"], ["--seed=1", "--seed=x"], ["-x"], ["@file"],
        ["%s", "%(prog)s"],
    ],
    ids=ascii,
)  # fmt: skip
def test_any_words_end_in_words(adapter, words):
    assert ends_in_words(train, "--dataset", "no.csv", *words)[0] == 2
    for main in (command.main, audit.main, cli.main):
        ends_in_words(main, *words)
    for name in ("predict", "audit", "evaluate", "adit"):
        assert ends_in_words(cli.main, name, *words)[0] == 2
    ends_in_words(command.main, "--model_path", adapter, *words)


@pytest.mark.parametrize("words", [["--no_such"], ["--offline=maybe"], ["--json", "x"], ["--config", "/dev/zero"]])
def test_the_doctor_s_words_too(words):
    assert ends_in_words(cli.main, "doctor", *words)[0] == 2


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_console_that_has_no_emoji(adapter, monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    assert exit_on_error(command.main, ["--model_path", str(adapter), "--text", "好👩"]) == 0
    assert "\\U0001f469" in stream.buffer.getvalue().decode(encoding)


def test_a_model_in_the_home_of_nobody(review_csv):
    words = ("--dataset", review_csv, "--output_dir", "x", "--model_name", PLACES["no home"])
    assert ends_in_words(train, *words)[0] == 2


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def trained(tiny_model, review_csv, tmp_path_factory):
    """argv of a run of 4 updates, and its last checkpoint."""
    output = tmp_path_factory.mktemp("trained") / "run"
    argv = [
        "--dataset", review_csv, "--model_name", tiny_model, "--precision", "fp32", "--max_length", 64,
        "--max_train_samples", 32, "--max_dev_samples", 8, "--num_epochs", 1, "--batch_size", 8,
        "--gradient_accumulation_steps", 1, "--eval_steps", 2,
    ]  # fmt: skip
    assert ends_in_words(train, *argv, "--output_dir", output)[0] == 0
    return argv, checkpoints(output)[1]


def of_mark(**changes: object) -> Callable[[Path], object]:
    """The mark with other values, and the hashes right again."""

    def change(folder: Path) -> None:
        values = read_mark(folder) | changes
        identity = values["identity"]
        with contextlib.suppress(TypeError, KeyError):
            values["hashes"] = {key: json_sha256(identity[key]) for key in SECTIONS}
        (folder / MARK).write_text(json.dumps(values), encoding="utf-8")

    return change


def of_identity(section: str, value: object) -> Callable[[Path], object]:
    return lambda folder: of_mark(identity=read_mark(folder)["identity"] | {section: value})(folder)


def mark_is(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / MARK).write_bytes(content)


def mark_is_made(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / MARK).unlink()
        make(folder / MARK)

    return change


def resealed(name: str, content: bytes | Callable[[bytes], bytes] | None) -> Callable[[Path], object]:
    """As an attacker would: another file, and a mark that is right for it."""

    def change(folder: Path) -> None:
        mark = read_mark(folder)
        before = (folder / name).read_bytes() if (folder / name).exists() else b""
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content(before) if callable(content) else content)
        seal(folder, MARK, {key: value for key, value in mark.items() if key != "files"})

    return change


def state_with(**changes: object) -> Callable[[Path], object]:
    return resealed("trainer_state.json", lambda raw: json.dumps(json.loads(raw) | changes).encode())


def weights_with(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def rewrite(raw: bytes) -> bytes:
        tensors = load(raw)
        change(tensors)
        return save(tensors)

    return rewrite


WEIGHTS = "adapter_model.safetensors"
CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "no mark": lambda folder: (folder / MARK).unlink(),
    "an empty mark": mark_is(b""),
    "a binary mark": mark_is(bytes(range(256))),
    "a deep mark": mark_is(b"[" * 100_000),
    "a list": mark_is(b"[]"),
    "a number": mark_is(b"1"),
    "a pipe for a mark": mark_is_made(os.mkfifo),
    "zeros for a mark": mark_is_made(lambda path: path.symlink_to("/dev/zero")),
    "a folder for a mark": mark_is_made(Path.mkdir),
    "a loop for a mark": mark_is_made(make_loop),
    "files: a list": of_mark(files=[]),
    "files: a list of names": of_mark(files=["optimizer.pt", "scheduler.pt", "trainer_state.json", WEIGHTS,
                                             "rng_state.pth"]),
    "files: paths": of_mark(files={"../x": "0", "/etc/passwd": "0", "a\0": "0"}),
    "files: numbers": of_mark(files={"optimizer.pt": 1}),
    "step: a text": of_mark(step="2"),
    "format: a list": of_mark(format=[]),
    "micro_tokens: infinite": of_mark(micro_tokens=float("inf")),
    "micro_tokens: a list": of_mark(micro_tokens=[]),
    "micro_tokens: huge": of_mark(micro_tokens=10**30),
    "identity: a number": of_mark(identity=5),
    "identity: nothing": of_mark(identity={}),
    "task: a number": of_identity("task", 5),
    "config: a list": of_identity("config", []),
    "config: infinite processes": of_identity("config", {"processes": float("inf")}),
    "config: a billion processes": of_identity("config", {"processes": 10**9}),
    "data: an object": of_identity("data", {"a": [1]}),
    "state: empty": resealed("trainer_state.json", b""),
    "state: binary": resealed("trainer_state.json", bytes(range(256))),
    "state: a list": resealed("trainer_state.json", b"[]"),
    "state: more keys": state_with(code="x"),
    "state: step a text": state_with(global_step="x"),
    "state: step negative": state_with(global_step=-5),
    "state: history of numbers": state_with(log_history=[1]),
    "state: best a text": state_with(best_metric="x"),
    "weights: empty": resealed(WEIGHTS, b""),
    "weights: random": resealed(WEIGHTS, bytes(range(256))),
    "weights: none": resealed(WEIGHTS, weights_with(dict.clear)),
    "weights: another shape": resealed(WEIGHTS, weights_with(
        lambda tensors: tensors.update({name: tensor[:1, :1].contiguous() for name, tensor in tensors.items()}))),
    "weights: NaN": resealed(WEIGHTS, weights_with(lambda tensors: [t.fill_(float("nan")) for t in tensors.values()])),
    "weights: another type": resealed(WEIGHTS, weights_with(
        lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()}))),
    "best: random": resealed("best_adapter.safetensors", bytes(range(256))),
    "optimizer: empty": resealed("optimizer.pt", b""),
    "optimizer: random": resealed("optimizer.pt", bytes(range(256))),
    "optimizer: a scheduler": lambda folder: resealed("optimizer.pt", (folder / "scheduler.pt").read_bytes())(folder),
    "scheduler: random": resealed("scheduler.pt", bytes(range(256))),
    "scheduler: an optimizer": lambda folder: resealed("scheduler.pt", (folder / "optimizer.pt").read_bytes())(folder),
    "randomness: random": resealed("rng_state.pth", bytes(range(256))),
    "randomness: a scheduler": lambda folder: resealed("rng_state.pth", (folder / "scheduler.pt").read_bytes())(folder),
    "no optimizer": resealed("optimizer.pt", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_any_checkpoint_ends_in_words(tmp_path, trained, name):
    """Named, or found as the last one: from a stranger, damaged or forged."""
    argv, whole = trained
    for wanted in ("named", "auto"):
        folder = shutil.copytree(whole, tmp_path / wanted / whole.name)
        CHECKPOINTS[name](folder)
        flag = folder if wanted == "named" else "auto"
        ends_in_words(train, *argv, "--output_dir", tmp_path / wanted, "--resume_from_checkpoint", flag)


def test_another_base_or_other_labels_are_another_run(tmp_path, trained, tiny_qwen3):
    argv, whole = trained
    shutil.copytree(whole, tmp_path / "run" / whole.name)
    (tmp_path / "task.yaml").write_text("labels: [正面, 负面]\n", encoding="utf-8")
    more = ("--output_dir", "run", "--resume_from_checkpoint", "auto")
    for change, name in ((("--model_name", tiny_qwen3), "基座（SHA-256）"), (("--task", "task.yaml"), "task.labels")):
        code, said = ends_in_words(train, *argv, *more, *change)
        assert code == 2
        assert f"{name}：" in said
    assert checkpoints(tmp_path / "run") == [tmp_path / "run" / whole.name], "it is another run's, not a broken one"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at_once", [True, False], ids=["Linux", "elsewhere"])
@pytest.mark.parametrize("moment", range(4))
def test_an_adapter_that_is_replaced_is_whole_after_a_kill(tmp_path, monkeypatch, at_once, moment):
    """Killed before the n-th change to the disk; then the next run recovers."""
    folder, new, count = tmp_path / "lora_adapter", tmp_path / ".lora_adapter.1", 0
    for path, content in ((folder, "old"), (new, "new")):
        path.mkdir()
        for name in "ab":
            (path / name).write_text(content)

    def mortal(change: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal count
            if count == moment:
                raise Killed
            count += 1
            return change(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal(Path.rename))
        patch.setattr(files, "_exchange", mortal(files._exchange) if at_once else lambda *paths: False)
        patch.setattr(files.shutil, "rmtree", mortal(shutil.rmtree))
        with contextlib.suppress(Killed):
            files.swap_in(new, folder)
    files.recover(folder)
    assert {(folder / name).read_text() for name in "ab"} in ({"old"}, {"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["lora_adapter"]
