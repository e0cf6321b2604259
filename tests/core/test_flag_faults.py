"""What a command line or a YAML gets wrong: all of it in one message."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.flag_configs import FilesConfig, RunConfig, faults, write
from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import option, parse


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
