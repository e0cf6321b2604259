"""A flag of every type that a dataclass may say."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.core.flag_configs import METHODS, AllTypes, Colour, FilesConfig, RunConfig, faults, page, write
from zhsenti.core.flag_types import value_type
from zhsenti.core.flags import option, parse

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
