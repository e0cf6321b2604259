"""A file through the predictor: every row answered, in order, whatever some of them hold."""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import weakref

import pytest

from tests.fakes import KeywordPredictor, write_adapter
from tests.paths import ROOT
from zhsenti.core.errors import ConfigError, DataError, DeviceLostError, MemoryShortError, ModelError
from zhsenti.prediction import command
from zhsenti.prediction.batch import windows
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.batch.windows import Question, score_window
from zhsenti.prediction.config import PredictConfig
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.task import SentimentTask

TABLE = 'text,id\n房间很好,a\n,b\n"太吵了\n很差",c\n三列,d,e\n=1+1很好,f\n'


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture
def door(tmp_path, monkeypatch):
    """``command.main`` on a sealed folder with the fake in it: returns the exit code and the predictors made."""
    write_adapter(tmp_path / "adapter")
    made: list[KeywordPredictor] = []

    def build(folder, **options):
        made.append(KeywordPredictor())
        return made[-1]

    monkeypatch.setattr(SentimentPredictor, "from_folder", build)
    return lambda *flags: (command.main(["--model_path", str(tmp_path / "adapter"), *map(str, flags)]), made)


def test_jsonl_has_every_row_and_all_its_cells(reviews, door, capsys):
    output = reviews.with_name("scored.jsonl")
    code, made = door("--input", reviews, "--output", output)
    assert code == 0
    assert made[0].calls == [3], "one call a window"
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(r["text"], r["id"], r["label"]) for r in found] == [
        ("房间很好", "a", "正面"), ("", "b", None), ("太吵了\n很差", "c", "负面"), (None, None, None),
        ("=1+1很好", "f", "正面"),
    ]  # fmt: skip
    assert [r["error"] for r in found][1] == "文本是空的"
    assert found[3]["error"].startswith("第 6 行（数据行 4）列数不对：3 列，表头 2 列")
    assert list(found[0]) == ["text", "id", "label", "confidence", "score_负面", "score_正面", "truncated", "error"]
    assert found[0]["score_正面"] == pytest.approx(found[0]["confidence"])
    said = capsys.readouterr()
    assert not said.out
    for part in (
        "完成：5 行，出错 2 行；正面 2（66.7%），负面 1（33.3%）；平均置信度 0.9",
        "1 行的文本是空的（第 3 行）",
        "1 行列数不对（第 6 行）",
        str(output),
    ):
        assert part in said.err, said.err
    assert sorted(p.name for p in reviews.parent.iterdir()) == ["adapter", "reviews.csv", "scored.jsonl"]


def test_csv_opens_in_excel_and_runs_nothing(reviews, door, capsys):
    output = reviews.with_name("scored.csv")
    door("--input", reviews, "--output", output)
    with output.open(encoding="utf-8-sig", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert ",".join(head) == "text,id,label,confidence,score_负面,score_正面,truncated,error"
    assert [row[:3] for row in rows][2:] == [["太吵了\n很差", "c", "负面"], ["", "", ""], ["'=1+1很好", "f", "正面"]]
    assert rows[1] == ["", "b", "", "", "", "", "", "文本是空的"]
    assert "1 个单元格以 = + - @ 开头" in capsys.readouterr().err


def test_without_output_lines_go_to_stdout(reviews, door, capsys):
    door("--input", reviews)
    said = capsys.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["a", "b", "c", None, "f"]
    assert "完成：5 行" in said.err


class Recording(KeywordPredictor):
    """Raises for a text with 炸, and for any call when ``broken``."""

    def __init__(self, broken: Exception | None = None) -> None:
        super().__init__(SentimentTask())
        self.broken = broken

    def predict_batch(self, texts, aspects=None, *, progress=None):
        if self.broken:
            raise self.broken
        if any("炸" in text for text in texts):
            raise MemoryError
        return super().predict_batch(texts, aspects, progress=progress)


def test_a_text_that_breaks_its_window_costs_itself():
    window = [Question("炸" if n in (3, 7) else "很好") for n in range(1, 11)]
    found = score_window(Recording(), window)
    assert [n for n, r in enumerate(found, start=1) if r.error] == [3, 7]
    assert found[2] == (None, None, "预测失败：MemoryError")
    assert all(r.scores and r.scores[1] > 0.5 for r in found if not r.error)


def test_a_window_is_taken_again_without_what_the_failed_one_holds():
    held = []

    class Tensors:
        pass

    class Large(KeywordPredictor):
        def predict_batch(self, texts, aspects=None, *, progress=None):
            assert not any(ref() for ref in held), "the window that failed is still in memory"
            tensors = Tensors()
            held.append(weakref.ref(tensors))
            if len(texts) > 1:
                raise RuntimeError("too much at once")
            return super().predict_batch(texts, aspects, progress=progress)

    gc.disable()
    try:
        found = score_window(Large(), [Question("很好")] * 3)
    finally:
        gc.enable()
    assert [result.error for result in found] == [None] * 3


def test_a_row_without_room_is_one_record_and_no_room_at_all_ends_the_job():
    class Small(KeywordPredictor):
        def predict_batch(self, texts, aspects=None, *, progress=None):
            if any(len(text) > self.most for text in texts):
                raise MemoryShortError("内存不足：一条 9 token 的文本也放不下", todo="关掉别的程序。")
            return super().predict_batch(texts, aspects, progress=progress)

    predictor = Small()
    predictor.most = 4
    window = [Question("很好"), Question("很好" * 9), Question("", None, "文本是空的"), Question("很差")]
    found = score_window(predictor, window)
    record = "预测失败：内存不足：一条 9 token 的文本也放不下。关掉别的程序。"
    assert [result.error for result in found] == [None, record, "文本是空的", None]
    predictor.most = 0
    with pytest.raises(MemoryShortError, match="放不下"):
        score_window(predictor, window)


def test_a_lost_gpu_is_met_once():
    calls = []

    class Lost(KeywordPredictor):
        def predict_batch(self, texts, aspects=None, *, progress=None):
            calls.append(len(texts))
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(DeviceLostError, match="device-side assert"):
        score_window(Lost(), [Question("很好")] * 9)
    assert calls == [9]


@pytest.mark.parametrize("error", [ConfigError("max_length 太小"), ModelError("没有基座"), OSError(5, "io")])
def test_what_concerns_every_row_stops_the_file(reviews, error):
    output = reviews.with_name("out.jsonl")
    config = PredictConfig(input=str(reviews), output=str(output))
    with pytest.raises(type(error)):
        predict_file(config, SentimentTask(), lambda: Recording(error))
    assert [p.name for p in reviews.parent.iterdir()] == ["reviews.csv"], "half a result was left"


def test_a_model_that_fails_on_every_row_is_not_a_file_of_errors():
    with pytest.raises(ModelError, match=r"模型对每一行都失败[\s\S]*TypeError"):
        score_window(Recording(TypeError("a bug")), [Question("很好")] * 5)


def test_a_text_the_predictor_refuses_is_named():
    found = score_window(Recording(DataError("第 1 条文本为空")), [Question("x")])
    assert found[0].error == "预测失败：第 1 条文本为空"


def test_no_more_than_a_window_is_read_ahead(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_CHARACTERS", 1000)
    monkeypatch.setattr(windows, "WINDOW_ROWS", 64)
    taken = 0

    def rows(text):
        nonlocal taken
        for taken in range(1, 2001):  # noqa: B007
            yield Question(text)

    for text, most in (("很好", 64), ("很好" * 100, 5)):
        done = 0
        for window in windows.windows(rows(text)):
            done += len(window)
            assert len(window) <= most
            assert taken == done
        assert done == 2000


def test_aspects_come_from_a_column_or_the_flag(tmp_path):
    task = SentimentTask(template="评论：{text}\n{aspect}：")
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "好", "方面": "服务"}\n{"text": "好"}\n', encoding="utf-8")
    seen = []

    class Aspects(KeywordPredictor):
        def predict_batch(self, texts, aspects=None, *, progress=None):
            seen.append(aspects)
            return super().predict_batch(texts, aspects, progress=progress)

    def run(**flags):
        config = PredictConfig(input=str(path), output=str(tmp_path / "o.jsonl"), **flags)
        predict_file(config, task, lambda: Aspects(task))
        return [json.loads(line)["error"] for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]

    assert run() == [None, "方面是空的"]
    assert run(aspect="位置") == [None, None]
    assert seen == [["服务"], ["位置", "位置"]]
    path.write_text('{"text": "好"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="找不到方面列"):
        run()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "IN", "--output", "a.txt"], "不认识的输出类型"),
        (["--input", "IN", "--output", "none/a.csv"], "没有输出文件夹"),
        (["--input", "IN", "--output", "IN"], "就是 --input"),
        (["--input", "IN", "--output", "folder.csv"], "是文件夹"),
        (["--input", "IN", "--text", "好"], "--input 不能和 --text 一起用"),
        (["--input", "IN", "--explain"], "--input 不能和 --explain 一起用"),
        (["--text", "好", "--output", "a.csv"], "--output 只和 --input 一起用"),
        (["--text", "好", "--engine", "ray"], "--engine 只和 --input 一起用"),
        (["--explain"], "没有说要预测什么"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_the_model_is_loaded(reviews, door, flags, message, monkeypatch):
    monkeypatch.chdir(reviews.parent)
    (reviews.parent / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=message):
        door(*[reviews if flag == "IN" else flag for flag in flags])
    assert reviews.read_text(encoding="utf-8") == TABLE


def test_a_bad_path_fails_without_torch(tmp_path):
    write_adapter(tmp_path / "adapter")
    code = (
        "import sys\nfrom zhsenti.cli import main\nfrom zhsenti.core.errors import exit_on_error\n"
        f"code = exit_on_error(main, ['predict', '--model_path', {str(tmp_path / 'adapter')!r}, '--input', 'no.csv'])\n"
        "assert 'torch' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "没有这个数据文件或文件夹：no.csv" in done.stderr
    assert "Traceback" not in done.stderr
