"""Whatever settings a user hands to a command, in YAML or as flags, it ends in words."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.hostile_files import make_loop
from tests.reliability.words import ends_in_words, train
from zhsenti import cli
from zhsenti.audit import command as audit
from zhsenti.core.errors import exit_on_error
from zhsenti.prediction import command

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
def test_any_value_ends_in_words(tiny_model, review_csv, name, value):
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
    words = ("--dataset", review_csv, "--output_dir", "x", "--model_name", "~no_such_user/x")
    assert ends_in_words(train, *words)[0] == 2
