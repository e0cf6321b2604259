"""``zhsenti audit``: files in, summary, CSV, JSON and page out; a mistake writes nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.fakes import KeywordPredictor, write_adapter
from tests.pages import Page
from zhsenti.artifact import open_artifact
from zhsenti.audit import command
from zhsenti.audit.findings import Audit
from zhsenti.audit.run import audit_splits
from zhsenti.audit.view import SHOWN, audit_view
from zhsenti.core.errors import ArtifactError, ConfigError, DataError, ModelError
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.methods.prompt import PromptEncoder
from zhsenti.models.backbone import Tokenizer
from zhsenti.prediction import predictor as predictor_module
from zhsenti.task import SentimentTask

ROWS = [(f"第{i}次住，房间{'很好，很满意' if i % 2 else '很差，太吵'}", i % 2) for i in range(80)]


@pytest.fixture(autouse=True)
def no_models(monkeypatch, tmp_path):
    """Tokens are estimated unless a test names a tokenizer."""
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))


def write(path: Path, rows=ROWS, header=("text", "label"), encoding="utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def run(tmp_path: Path, *words: object) -> Audit:
    out = tmp_path / "out"
    assert command.main([*map(str, words), "--output_dir", str(out)]) == 0
    return Audit.model_validate_json((out / "audit.json").read_bytes())


def findings(tmp_path: Path) -> list[dict[str, str]]:
    data = (tmp_path / "out" / "findings.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(data.decode("utf-8-sig").splitlines(keepends=True)))


def test_a_folder_of_splits(tmp_path, capsys):
    folder = tmp_path / "data"
    write(folder / "train.csv", [*ROWS, ROWS[0], (ROWS[1][0], 0)])
    write(folder / "validation.csv", [ROWS[2], ("全新的一条", 1)])
    write(folder / "test.csv", [ROWS[3], ROWS[4]])
    write(folder / "more.csv")
    found = run(tmp_path, folder)
    assert [split.name for split in found.splits] == ["train", "dev", "test"]
    assert found.exact_cross_split == {"dev_in_train": 1, "test_in_train": 2, "test_in_dev": 0}
    assert (found.repeated_in_train, found.conflicting_texts) == (2, 1)
    rows = findings(tmp_path)
    assert len(rows) == len(found.findings)
    leak = next(row for row in rows if row["kind"] == "cross_split" and row["split"] == "test")
    assert (leak["row"], leak["other_split"], leak["other_row"], leak["text"]) == ("1", "train", "4", ROWS[3][0])
    captured = capsys.readouterr()
    assert "test 的 2 条里有 2 条" in captured.out
    assert "more.csv" in captured.out
    tables = captured.out.split("1. ")[0]
    assert max(cell_len(line) for line in tables.splitlines()) <= 80


def test_json_is_one_object_and_nothing_else(tmp_path, capsys):
    train, test = write(tmp_path / "train.csv"), write(tmp_path / "test.csv", ROWS[:3])
    found = run(tmp_path, "--json", train, test)
    said = json.loads(capsys.readouterr().out)
    assert said["exact_cross_split"] == {"test_in_train": 3}
    assert said["repeated_in_train"] == said["conflicting_texts"] == 0
    assert said["findings"] == found.counts()
    assert Path(said["findings_csv"]).is_file()


def test_gbk_and_unlabelled_files(tmp_path, capsys):
    path = write(tmp_path / "评论.csv", [(text,) for text, _ in ROWS], ("评论",), "gb18030")
    found = run(tmp_path, path)
    assert [split.name for split in found.splits] == ["评论"]
    assert not found.splits[0].labelled
    assert "GB18030" in found.splits[0].note
    assert found.unknown_labels == 0
    assert any("没有标签列" in note for note in found.notes)
    assert "没有标签列" in capsys.readouterr().out


def test_rows_that_training_refuses_are_reported(tmp_path):
    path = write(tmp_path / "a.csv", [*ROWS, ("", 1), ("\u200b", 0), ("还行", "一般"), ("不错", "")])
    found = run(tmp_path, path)
    assert (found.empty, found.unknown_labels) == (2, 2)
    rows = [(row["kind"], row["row"]) for row in findings(tmp_path)]
    assert {("empty", "81"), ("empty", "82"), ("unknown_label", "83"), ("unknown_label", "84")} <= set(rows)
    assert next(row for row in findings(tmp_path) if row["row"] == "83")["label"] == "一般"


def test_hostile_texts_stay_text_everywhere(tmp_path):
    hostile = ["<script>alert(1)</script>", '=HYPERLINK("http://x","y")', "\u202e反过来", "</table><img src=x>"]
    run(tmp_path, write(tmp_path / "train.csv", [*ROWS, *((text, i % 2) for i, text in enumerate(hostile * 2))]))
    html = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert not {"src", "href", "onclick"} & {name for name, _ in page.attributes}
    assert not {"script", "img", "link", "iframe"} & page.tags
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html
    assert any(row["text"].startswith("'=HYPERLINK") for row in findings(tmp_path))


def test_the_page_shows_the_worst_of_each_kind(tmp_path):
    found = run(tmp_path, write(tmp_path / "train.csv", [*ROWS, *ROWS]))
    view = audit_view(found)
    [group] = [group for group in view.groups if group.kind == "exact_duplicate"]
    assert (group.n, len(group.findings)) == (80, SHOWN)
    html = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert '<section id="audit">' in html
    assert f"重复文本：80 处，前 {SHOWN} 处" in html


def test_the_adapter_reads_suspects_and_lends_its_task(tmp_path, monkeypatch):
    task = SentimentTask(max_length=64)
    write_adapter(tmp_path / "lora_adapter", task=task)
    predictor = KeywordPredictor(task, strength=4.0)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: predictor)
    rows = [*ROWS, ("第90次住，房间很好，很满意", 0)]
    found = run(
        tmp_path, write(tmp_path / "a.csv", rows), "--model_path", tmp_path / "lora_adapter", "--adapter_rows=5"
    )
    assert predictor.calls == [5]
    assert found.adapter_disagreements == 1
    assert found.splits[0].tokens.max_length == 64
    with pytest.raises(ConfigError, match="不能同时给"):
        run(tmp_path, tmp_path / "a.csv", "--model_path", tmp_path / "lora_adapter", "--max_length", "32")


def test_the_adapters_folder_is_opened_once(tmp_path, monkeypatch):
    write_adapter(tmp_path / "lora_adapter")
    opened = []

    def counted(folder):
        opened.append(folder)
        return open_artifact(folder)

    for module in (command, predictor_module):
        monkeypatch.setattr(module, "open_artifact", counted)
    monkeypatch.setattr(predictor_module, "find_base", lambda manifest, name: pytest.fail("far enough"))
    with pytest.raises(pytest.fail.Exception, match="far enough"):
        run(tmp_path, write(tmp_path / "a.csv"), "--model_path", tmp_path / "lora_adapter")
    assert len(opened) == 1


def test_tokens_are_measured_with_a_tokenizer_at_hand(tmp_path, tiny_model):
    path = write(tmp_path / "a.csv")
    found = run(tmp_path, path, "--model_name", tiny_model, "--max_length", "62")
    encode = PromptEncoder(SentimentTask(max_length=62), Tokenizer(tiny_model))
    lengths = [encode(text).tokens for text, _ in ROWS]
    stats = found.splits[0].tokens
    assert (stats.measured, stats.max, stats.n_over) == (True, max(lengths), sum(n > 62 for n in lengths))
    assert 0 < stats.n_over < len(ROWS)
    assert not run(tmp_path, path).splits[0].tokens.measured
    with pytest.raises(ModelError, match="本地没有"):
        run(tmp_path, path, "--model_name", "no/such-model")


def test_loaded_splits_are_audited_without_files(tmp_path):
    splits = load_dataset(DataConfig(dataset=str(write(tmp_path / "a.csv"))), SentimentTask())
    found = audit_splits(splits, SentimentTask())
    assert sum(split.n for split in found.splits) == len(ROWS)
    assert set(found.exact_cross_split.values()) == {0}


def test_task_from_yaml(tmp_path):
    yaml = tmp_path / "task.yaml"
    yaml.write_text("task: {labels: [差, 中, 好]}\n", encoding="utf-8")
    path = write(tmp_path / "a.csv", [("好", "好"), ("一般", "中"), ("坏", "差")])
    assert run(tmp_path, path, "--task", yaml).splits[0].labels == {"差": 1, "中": 1, "好": 1}


COLUMNS = ["--text_column", "评论", "--label_column=标签"]


@pytest.mark.parametrize(
    ("words", "following"),
    [
        (["data"], "zhsenti train --dataset data"),
        (["data/train.csv", "data/test.csv"], "zhsenti train --dataset data"),
        (["one.csv", "--max_length", "64"], "zhsenti train --dataset one.csv --max_length 64"),
        (["named.csv", *COLUMNS], "zhsenti train --dataset named.csv --text_column '评论' --label_column '标签'"),
        (["one.csv", "two.csv"], "把文件放进一个文件夹，训练用的取名 train，再 zhsenti train --dataset 文件夹"),
        (["bad.csv"], "改好用不了的行（或加 --on_error skip 跳过它们），再 zhsenti train --dataset bad.csv"),
        (["texts.csv"], "zhsenti predict --input texts.csv"),
        (
            ["texts.csv", "--model_path", "lora", "--model_name", "my base"],
            "zhsenti predict --model_path lora --model_name 'my base' --input texts.csv",
        ),
        (["one.csv", "--model_path", "lora"], "zhsenti evaluate --model_path lora --dataset one.csv"),
    ],
)
def test_the_last_line_says_what_to_type_next(tmp_path, tiny_model, monkeypatch, capsys, words, following):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "my base")
    for name in ("data/train.csv", "data/test.csv", "one.csv", "two.csv"):
        write(tmp_path / name)
    write(tmp_path / "named.csv", header=("评论", "标签"))
    write(tmp_path / "bad.csv", [*ROWS, ("", 1)])
    write(tmp_path / "texts.csv", [(text,) for text, _ in ROWS], ("text",))
    write_adapter(tmp_path / "lora")
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: KeywordPredictor())
    monkeypatch.setattr(command, "find_tokenizer", lambda name, manifest: (None, "估计"))  # of no real base
    run(tmp_path, *words)
    assert capsys.readouterr().out.splitlines()[-1] == f"下一步：{following}"


@pytest.mark.parametrize(
    ("words", "kind", "part"),
    [
        ([], ConfigError, "没有给出"),
        (["a/train.csv", ""], ConfigError, "files：有一个是空的"),
        (["none.csv"], DataError, "没有这个数据文件"),
        (["a/train.csv", "b/train.csv"], DataError, "两个文件都是 train"),
        (["a/dev.csv", "b/valid.csv"], DataError, "两个文件都是 dev"),
        (["empty"], DataError, "没有数据文件"),
        (["a/train.csv", "--text_column", "正文"], DataError, "找不到文本列"),
        (["a/train.csv", "--label_column", "标"], DataError, "找不到标签列"),
        (["a/train.csv", "--model_path", "nowhere"], ArtifactError, "没有这个适配器"),
        (["a/train.csv", "--max_lenght", "9"], ConfigError, "--max_length"),
    ],
)
def test_mistakes_write_nothing(tmp_path, monkeypatch, words, kind, part):
    for name in ("a/train.csv", "b/train.csv", "a/dev.csv", "b/valid.csv"):
        write(tmp_path / name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=part):
        run(tmp_path, *words)
    assert not (tmp_path / "out").exists()
