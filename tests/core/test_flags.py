"""Dataclasses as flags and YAML keys: what is read, what is refused and in which words."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.flag_configs import METHODS, AllTypes, Colour, FilesConfig, RowsConfig, RunConfig, faults, page, write
from zhsenti.core.errors import ConfigError
from zhsenti.core.flag_types import value_type
from zhsenti.core.flags import option, parse, program, read_yaml, typed

# ── precedence, spelling, sources ─────────────────────────────────────────────────────────────────────────────────


def test_flags_beat_yaml_beats_defaults_and_hyphens_work(tmp_path):
    path = write(tmp_path / "c.yaml", "lora-r: 4\nnum_epochs: 2\ntask: {labels: [差, 好]}\n")
    config, sources = parse(RunConfig, ["--config", path, "--lora-r", "32", "--use_qlora"], "")
    assert (config.lora_r, config.num_epochs, config.use_qlora, config.batch_size) == (32, 2.0, True, 8)
    assert config.task == {"labels": ["差", "好"]}
    assert sources == {"lora_r": "命令行", "num_epochs": path, "use_qlora": "命令行", "task": path}


def test_nothing_given_is_all_defaults_and_lists_are_not_shared():
    one, sources = parse(AllTypes, [], "")
    other, _ = parse(AllTypes, [], "")
    assert (one, sources) == (AllTypes(), {})
    one.words.append("c")
    assert other.words == AllTypes().words == ["a", "b"]


def test_words_of_the_process_are_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed=7"])
    assert parse(RowsConfig, None, "")[0].seed == 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], ""),
        (["--seed=42", "--method", "plain"], ""),
        (["--lora_r", "32", "--early", "no", "--use_qlora"], " --lora_r 32 --use_qlora true --early false"),
        (["--run_name", "我的 run", "--text=-a"], " --run_name '我的 run' --text=-a"),
        (["--text="], " --text ''"),
        (["--text", "it's"], """ --text 'it'"'"'s'"""),
    ],
)
def test_flags_that_were_given_can_be_typed_again(words, line):
    config, _ = parse(RunConfig, words, "")
    again = typed(config, "seed", "lora_r", "use_qlora", "method", "early", "run_name", "text")
    assert again == line
    assert parse(RunConfig, shlex.split(again), "")[0] == config


def test_the_last_of_two_wins_and_a_value_may_hold_an_equals_sign():
    config, _ = parse(RunConfig, ["--seed", "1", "--seed=2", "--run_name=a=b", "--use_qlora", "--use-qlora=no"], "")
    assert (config.seed, config.run_name, config.use_qlora) == (2, "a=b", False)


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_faults_in_one_message(tmp_path):
    path = write(tmp_path / "c.yaml", "lora_rr: 4\nbatch_size: many\n")
    wrong = ["--learning_rate", "-1e-4", "--precision", "fp8", "--lora_x", "3", "--seed"]
    said = faults(RunConfig, ["--config", path, *wrong])
    for part in (
        "参数有误",
        "c.yaml 的 lora_rr：没有这个参数，是否指 lora_r？",
        "batch_size：'many' 不是整数",
        "命令行 的 learning_rate：-0.0001 不大于下限 0",
        "precision：'fp8' 不在 auto | bf16 | fp32 之中",
        "不认识的参数：--lora_x 3",
        "--lora_x 是否指 --lora_r？",
        "--seed 缺少取值",
        "--help 列出所有参数。",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--lora_rx", "--lora_r"), ("--lora-rx=4", "--lora_r"), ("-seed", "--seed"), ("—seed", "--seed"),
     ("--batchsize", "--batch_size"), ("--confg", "--config"), ("--hlep", "--help"), ("--zzz", None)],
)  # fmt: skip
def test_a_slip_of_the_keys_is_answered_with_the_flag_that_was_meant(word, meant):
    said = faults(RunConfig, [word, "4"])
    assert f"不认识的参数：{word} 4" in said
    assert ("是否指" in said) == bool(meant)
    assert not meant or f"{word.split('=')[0]} 是否指 {meant}？" in said


@pytest.mark.parametrize(
    "flag",
    ["--num_epochs=0", "--learning_rate=0", "--dropout=1", f"--seed={2**32}", "--seed=-1", "--batch_size=1.5",
     "--batch_size=x", "--lora_r=1e300", "--lora_r=" + "9" * 400, "--num_epochs=nan", "--num_epochs=inf",
     "--use_qlora=maybe", "--max_length=none", "--run_name=", "--run_name= ", "--dataset=a\0b", "--dataset=\udcff"],
)  # fmt: skip
def test_values_no_run_can_use_are_refused(flag):
    name, _, value = flag.partition("=")
    assert f"命令行 的 {name[2:]}：" in faults(RunConfig, [flag])
    assert f"命令行 的 {name[2:]}：" in faults(RunConfig, [name, value])


@pytest.mark.parametrize("words", [["--seed"], ["--seed", "--lora_r", "4"], ["--seed", "--"], ["--run_name", "-abc"]])
def test_a_flag_without_its_value(words):
    assert f"{words[0]} 缺少取值（以 - 开头的值写成 {words[0]}=值）" in faults(RunConfig, words)


def test_values_may_begin_with_a_dash():
    words = ["--run_name", "-5", "--dataset", "-", "--text", "- 很差"]
    config, _ = parse(RunConfig, words, "")
    assert (config.run_name, config.dataset, config.text) == ("-5", "-", "- 很差")
    assert parse(RunConfig, ["--run_name=--seed", "--text", "-差"], "")[0].run_name == "--seed"
    assert "-1 小于下限 0" in faults(RunConfig, ["--seed", "-1"])


@pytest.mark.parametrize("words", [["foo"], ["--seed", "4", "foo"], ["--", "foo"], [""]])
def test_words_that_belong_to_no_flag_are_refused(words):
    assert "不认识的参数：" in faults(RunConfig, words)


def test_only_what_is_empty_by_default_may_be_empty():
    assert parse(RunConfig, ["--slices", ""], "")[0].slices == ""
    assert "dataset：是空的" in faults(RunConfig, ["--dataset", ""])
    assert "config：是空的" in faults(RunConfig, ["--config="])


@pytest.mark.parametrize("text", ["", " ", "a\0b", "\udcff", "--seed", "好\n差"])
def test_a_free_text_may_hold_anything(text):
    assert parse(RunConfig, [f"--text={text}"], "")[0].text == text


def test_text_that_is_not_free_is_as_any_other():
    @dataclass
    class Config:
        text: str = option("a", "一句")

    assert "text：是空的" in faults(Config, ["--text="])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed:", "seed：是空的"),
        ("dataset: ~", "dataset：是空的"),
        ("dataset: ''", "dataset：是空的"),
        ("dataset: [a]", "dataset：['a'] 不是文字"),
        ("dataset: {a: 1}", "dataset：{'a': 1} 不是文字"),
        ("dataset: no", "dataset：False 不是文字：YAML 里的 yes、no、true、false 要加引号"),
        ('dataset: "\\ud800"', "dataset：'\\ud800' 不是 UTF-8"),
        ('dataset: "a\\0"', "dataset：'a\\x00' 不是文字"),
        ("seed: [1]", "seed：[1] 不是整数"),
        ("seed: yes", "seed：True 不是整数"),
        ("learning_rate: true", "learning_rate：True 不是数"),
        ("learning_rate: {}", "learning_rate：{} 不是数"),
        ("early: maybe", "early：'maybe' 不是true 或 false"),
        ("early: {a: 1}", "early：{'a': 1} 不是true 或 false"),
        ("task: [1]", "task：[1] 不是文字"),
        ("text: [1]", "text：[1] 不是文字"),
        ("config: a.yaml", "config：没有这个参数"),
        ("1: 2", "1：没有这个参数"),
    ],
)
def test_yaml_values_that_are_refused(tmp_path, line, said):
    assert said in faults(RunConfig, ["--config", write(tmp_path / "c.yaml", line)])


def test_null_is_a_value_where_none_is(tmp_path):
    path = write(tmp_path / "c.yaml", "run_name: ~\nmax_length:\nuse_qlora: null\ntask: null\n")
    config, sources = parse(RunConfig, ["--config", path], "")
    assert (config.run_name, config.max_length, config.use_qlora, config.task) == (None, None, None, None)
    assert set(sources) == {"run_name", "max_length", "use_qlora", "task"}


words_in_any_order = st.lists(
    st.sampled_from(["--seed", "--json", "--files", "--output_dir", "--output-dir=x", "--", "-", "-h=1", "=", "--="])
    | st.text(max_size=4)
    | st.text(max_size=4).map(lambda text: f"--seed={text}"),
    max_size=6,
)


@pytest.mark.fuzz
@given(words=words_in_any_order)
def test_any_words_end_in_a_config_or_in_one_message(words):
    for positional in (None, "files"):
        code, said = 0, "参数有误"
        try:
            config, sources = parse(FilesConfig, words, "", positional)
            assert set(sources) <= set(vars(config))
        except ConfigError as error:
            said = str(error)
        except SystemExit as done:  # the page of --help
            code = done.code
        assert said.startswith("参数有误")
        assert not code


# ── types ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HOME = Path(os.path.expanduser("~"))


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--switch"], True),
        (["--switch", "--count", "1"], True),
        (["--switch", "false"], False),
        (["--maybe", "No"], False),
        (["--maybe"], True),
        (["--count", "1e3"], 1000),
        (["--share", "1e-3"], 0.001),
        (["--name", "7"], "7"),
        (["--words", "x", "--words=y"], ["x", "y"]),
        (["--counts", "1", "--counts", "-2"], [1, -2]),
        (["--shares", ".5", "--shares", "2"], [0.5, 2.0]),
        (["--place", "~/a"], HOME / "a"),
        (["--places", "a", "--places", "b"], [Path("a"), Path("b")]),
        (["--kind", "b"], "b"),
        (["--level", "2"], 2),
        (["--colour", "blue"], Colour.BLUE),
        (["--colours", "blue", "--colours", "red"], [Colour.BLUE, Colour.RED]),
        (["--wide", "y"], ["y"]),
    ],
)
def test_each_type_from_flags(words, value):
    config, sources = parse(AllTypes, words, "")
    got = getattr(config, words[0][2:])
    assert got == value
    assert type(got) is type(value)
    assert sources[words[0][2:]] == "命令行"


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("switch", "yes", True),
        ("switch", "'false'", False),
        ("maybe", "~", None),
        ("count", "3", 3),
        ("count", "'3'", 3),
        ("count", "3.0", 3),
        ("share", "1e-3", 0.001),
        ("share", "1", 1.0),
        ("name", "7", "7"),
        ("name", "2020-01-02", "2020-01-02"),
        ("words", "[x, 1]", ["x", "1"]),
        ("words", "x", ["x"]),
        ("counts", "[1, 2]", [1, 2]),
        ("shares", "[1, .5]", [1.0, 0.5]),
        ("place", "a/b", Path("a/b")),
        ("places", "[a]", [Path("a")]),
        ("places", "~", None),
        ("kind", "b", "b"),
        ("level", "2", 2),
        ("colour", "blue", Colour.BLUE),
        ("colours", "[blue]", [Colour.BLUE]),
        ("table", "{a: 1, b: [c]}", {"a": 1, "b": ["c"]}),
        ("wide", "[x, y]", ["x", "y"]),
    ],
)
def test_each_type_from_yaml(tmp_path, name, written, value):
    path = write(tmp_path / "c.yaml", f"{name}: {written}\n")
    config, sources = parse(AllTypes, ["--config", path], "")
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)
    assert sources == {name: path}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--counts", "1", "--counts", "x"], "counts：'x' 不是整数"),
        (["--shares", "x"], "shares：'x' 不是数"),
        (["--kind", "c"], "kind：'c' 不在 a | b 之中"),
        (["--level", "3"], "level：'3' 不在 1 | 2 之中"),
        (["--colour", "RED"], "colour：'RED' 不在 red | blue 之中"),
        (["--colours", "green"], "colours：'green' 不在 red | blue 之中"),
        (["--wide", "x", "--wide", "z"], "wide：'z' 不在 x | y 之中"),
        (["--table", "a"], "table：'a' 不是“键: 值”（这个参数只能写在 YAML 里）"),
        (["--place", ""], "place：是空的"),
        (["--place", "a\0"], "place：'a\\x00' 不是文字"),
    ],
)
def test_values_of_another_type_are_refused(words, said):
    assert said in faults(AllTypes, words)


@pytest.mark.parametrize("items", ["[~]", "[[a]]", "[{a: 1}]", "[yes]"])
def test_lists_hold_values_of_their_type_only(tmp_path, items):
    assert "words：" in faults(AllTypes, ["--config", write(tmp_path / "c.yaml", f"words: {items}")])


@pytest.mark.parametrize(
    "hint",
    [set, tuple[str, ...], bytes, Any, object, list, list[dict], list[list[str]], list[bool], list[str | None],
     dict[str, int], int | str, bool | str, list[str] | dict, Literal["a", None], None, complex],
    ids=str,
)  # fmt: skip
def test_a_type_that_no_flag_can_have_is_the_programmers_error(hint):
    with pytest.raises(TypeError, match="a flag cannot be"):
        value_type(hint)


def test_fields_that_cannot_be_flags_are_the_programmers_error():
    def made_of(hint: Any, default: Any) -> type:
        return dataclass(type("Config", (), {"__annotations__": {"wrong": hint}, "wrong": default}))

    for hint, default, positional, why in (
        (set, option(None, "集合"), None, "cannot be of type"),
        (int, field(default=1), None, "declare it with option"),
        (int, option(1, "数", free=True), None, "only a text can be free"),
        (str, option("", "词"), "wrong", "only a list can be positional"),
    ):
        with pytest.raises(TypeError, match=rf"Config\.wrong: .*{why}"):
            parse(made_of(hint, default), [], "", positional)

    @dataclass
    class Config:
        config: str = option("a", "与 --config 同名")

    with pytest.raises(TypeError, match="every command has"):
        parse(Config, [], "")
    with pytest.raises(TypeError, match="has no field"):
        parse(FilesConfig, [], "", "file")


def test_names_registered_later_count(capsys):
    assert "'late' 不在 plain 之中" in faults(RunConfig, ["--method", "late"])
    METHODS["late"] = "m:Late"
    try:
        assert parse(RunConfig, ["--method", "late"], "")[0].method == "late"
        assert "--method plain|late" in page(RunConfig, capsys)
    finally:
        del METHODS["late"]


# ── words without a flag ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words", [["a", "b", "--json"], ["--json", "a", "b"], ["a", "--json", "--seed", "42", "b"], ["a", "--json=1", "b"]]
)
def test_positional_words_may_stand_anywhere(words):
    config, sources = parse(FilesConfig, words, "", positional="files")
    assert (config.files, config.json) == (["a", "b"], True)
    assert set(sources) - {"seed"} == {"files", "json"}


@pytest.mark.parametrize(
    ("words", "files", "json"),
    [
        (["--json", "false", "a"], ["a"], False),
        (["--json"], [], True),
        (["-", "-5", "- a"], ["-", "-5", "- a"], False),
        (["a", "--", "--json", "--", "-x"], ["a", "--json", "--", "-x"], False),
    ],
)
def test_positional_words_and_switches(words, files, json):
    config, _ = parse(FilesConfig, words, "", positional="files")
    assert (config.files, config.json) == (files, json)


def test_no_item_of_a_list_may_be_empty(tmp_path):
    """As where a variable of the shell has no value: as a path it would be the current folder."""
    assert "命令行 的 files：有一个是空的" in faults(FilesConfig, ["a", ""], positional="files")
    assert "命令行 的 files：有一个是空的" in faults(FilesConfig, ["--files", " "])
    assert "places：有一个是空的" in faults(AllTypes, ["--places", "a", "--places="])
    assert "files：有一个是空的" in faults(FilesConfig, ["--config", write(tmp_path / "c.yaml", "files: [a, '']")])


def test_a_flag_with_a_slip_is_no_file():
    assert "--jsom 是否指 --json？" in faults(FilesConfig, ["--jsom", "a"], positional="files")
    assert "不认识的参数：-x —json" in faults(FilesConfig, ["-x", "a", "—json"], positional="files")


def test_positional_words_from_yaml(tmp_path):
    path = write(tmp_path / "c.yaml", "files: [a.csv, b.csv]\nseed: 7\n")
    config, _ = parse(FilesConfig, ["--config", path], "", positional="files")
    assert (config.files, config.seed) == (["a.csv", "b.csv"], 7)
    config, _ = parse(FilesConfig, ["c.csv", "--config", path], "", positional="files")
    assert config.files == ["c.csv"]


# ── --config ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["laptop", "laptop.yaml", "./packaged/laptop.yaml"])
def test_a_packaged_yaml_is_found_by_its_name(configs, name):
    config, sources = parse(RowsConfig, ["--config", name], "", configs=configs)
    assert config.seed == 1
    assert sources == {"seed": name if "/" in name else "自带的 laptop.yaml"}


def test_a_fault_in_a_packaged_yaml_names_it(configs):
    assert "自带的 gpu.yaml 的 sede：没有这个参数，是否指 seed？" in faults(
        RowsConfig, ["--config=gpu"], configs=configs
    )


def test_a_file_of_the_user_is_meant_before_a_packaged_one(configs, tmp_path):
    (tmp_path / "laptop").mkdir()  # a folder cannot be meant
    assert parse(RowsConfig, ["--config", "laptop"], "", configs=configs)[0].seed == 1
    write(tmp_path / "laptop.yaml", "seed: 5\n")
    assert parse(RowsConfig, ["--config", "laptop.yaml"], "", configs=configs)[0].seed == 5


@pytest.mark.parametrize("name", ["labtop", "packaged/laptop", "no/laptop.yaml", "~/no.yaml"])
def test_a_config_that_does_not_exist_is_answered_with_the_packaged_names(configs, name):
    said = faults(RowsConfig, ["--config", name], configs=configs)
    assert f"读不了配置文件 {name}" in said
    assert "自带的：gpu、laptop，写名字即可。" in said


@pytest.mark.parametrize(("name", "said"), [("none.yaml", "读不了配置文件"), ("bad.yaml", "不是合法的 YAML")])
def test_a_config_that_cannot_be_read_is_one_fault_among_others(tmp_path, name, said):
    write(tmp_path / "bad.yaml", "a: [")
    lines = faults(RunConfig, ["--config", str(tmp_path / name), "--seed", "x", "--lora_x"]).splitlines()
    assert lines[0] == "参数有误"
    assert [line for line in lines if line.startswith("  - ")] == [
        "  - 不认识的参数：--lora_x",
        next(line for line in lines if said in line and line.startswith("  - ")),
        "  - 命令行 的 seed：'x' 不是整数",
    ]
    assert [line[2:5] for line in lines if line.startswith("  怎")] == ["怎么办"], "of all together: one"


def test_an_alias_has_defaults_below_the_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scripts/alias.py"])
    path = write(tmp_path / "c.yaml", "lora_r: 4\n")
    alias = {"lora_r": 2, "early": False, "seed": 7}
    config, sources = parse(RunConfig, ["--config", path, "--seed", "9"], "", defaults=alias)
    assert (config.lora_r, config.early, config.seed) == (4, False, 9)
    assert sources == {"lora_r": path, "early": "python scripts/alias.py", "seed": "命令行"}
    shown = page(RunConfig, capsys, defaults=alias)
    assert "LoRA 秩（默认 2）" in shown
    assert "随机种子（划分、抽样；默认 7）" in shown


def test_without_packaged_ones_a_config_is_a_path(configs):
    said = faults(RowsConfig, ["--config", "laptop"])
    assert "读不了配置文件 laptop" in said
    assert "自带" not in said


def test_a_config_under_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "c.yaml", "seed: 6\n")
    assert parse(RowsConfig, ["--config=~/c.yaml"], "")[0].seed == 6


LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "不是合法的 YAML"),
        (b"run_name: 2020-13-45\n", "不是合法的 YAML"),
        (b"seed: 1\n---\nseed: 2\n", "不是合法的 YAML"),
        (b"task: !!python/object/apply:os.system [touch owned]\n", "不是合法的 YAML"),
        (b"batch_size: " + b"9" * 5000, "不是合法的 YAML"),
        ("dataset: 好\n".encode("gbk"), "不是合法的 YAML"),
        (bytes(range(256)), "不是合法的 YAML"),
        (b"just a text\n", "最外层要是“键: 值”"),
        (b"? [a]\n: b\n", "不是合法的 YAML"),
        (b"- a\n", "最外层要是“键: 值”"),
        (LAUGHS.encode(), "第 2 行用了引用"),
        (b"task: &t {labels: *t}\n", "第 1 行用了引用"),
        (b"a: 1\ntask: " + b"[" * 20_000, "第 2 行嵌套超过 32 层"),
        (b"# x\n" * (1 << 18), "太大"),
    ],
)
def test_yaml_that_is_refused(tmp_path, content, said):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_yaml(path)
    assert "c.yaml" in str(caught.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), lambda path: None])
def test_what_is_no_file_is_no_yaml(tmp_path, make):
    make(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="读不了配置文件"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", "a\0.yaml", "长" * 200, "a/" * 3000, "\udcff.yaml", ""])
def test_paths_that_no_yaml_can_have(path):
    with pytest.raises(ConfigError, match="读不了配置文件"):
        read_yaml(path)
    assert "配置文件" in (said := faults(RowsConfig, [f"--config={path}"])) or "config：" in said


def test_an_empty_yaml_says_nothing(tmp_path):
    assert read_yaml(write(tmp_path / "c.yaml", "# nothing\n")) == {}


# ── how it was called, where things are ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["/usr/bin/zhsenti", "audit", "x"], "zhsenti audit"),
        (["/usr/bin/zhsenti"], "zhsenti"),
        (["/usr/bin/zhsenti", "--help"], "zhsenti"),
        (["zhsenti.exe", "train", "-h"], "zhsenti train"),
        (["/lib/zhsenti/__main__.py", "train"], "zhsenti train"),
        (["scripts/inference.py", "--text", "好"], "python scripts/inference.py"),
        (["/my files/inference.py"], "python '/my files/inference.py'"),
        (["/usr/bin/serve", "run"], "serve"),
    ],
)
def test_the_program_is_called_as_it_can_be_typed(monkeypatch, argv, called):
    monkeypatch.setattr(sys, "argv", argv)
    assert program() == called


def test_reading_flags_is_cheap():
    code = (
        "import sys; from zhsenti.core.flags import parse; import zhsenti.core.paths\n"
        "assert not {'yaml', 'torch', 'numpy', 'rich', 'argparse', 'importlib.resources'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
