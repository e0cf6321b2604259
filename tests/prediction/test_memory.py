"""Predictions whose memory runs out: smaller passes, the same results, and a row that does not fit is one error."""

from __future__ import annotations

import gc
import io
import json
import weakref

import numpy as np
import pytest
import torch

from tests.tiny_models import make_adapter
from zhsenti import SentimentPredictor
from zhsenti.core.errors import DeviceLostError, MemoryShortError, ModelError, exit_on_error
from zhsenti.data.read import read_table
from zhsenti.methods import METHODS
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import token_batches
from zhsenti.prediction import command
from zhsenti.prediction.batch import shards
from zhsenti.prediction.batch.windows import Question, score_window
from zhsenti.prediction.explain import explain
from zhsenti.prediction.passes import Passes, pass_tokens

TEXTS = [f"第{n}次住，{'房间很好，' * (1 + n % 7)}{'太吵了' * (n % 5)}" for n in range(40)]
LONG = "早餐也很丰富，服务也很热情，" * 12
LOST = "CUDA error: an illegal memory access was encountered"


@pytest.fixture(params=list(METHODS))
def adapter(request, tiny_model, tmp_path):
    """One that reads 256 tokens: the shared one cuts texts at 64, and none would be too long."""
    return make_adapter(tmp_path / "lora_adapter", tiny_model, request.param)


@pytest.fixture(autouse=True)
def no_gpu_is_asked(monkeypatch):
    """Fakes on a machine with a GPU are judged as elsewhere."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


@pytest.fixture(params=["cuda", "cpu", "python"])
def error(request):
    return {
        "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
        "python": MemoryError("Unable to allocate 2.00 GiB"),
    }[request.param]


class Memory:
    """Room for ``most`` tokens in a pass: a larger one raises after its work, as a real allocation would in the middle.

    ``passes`` holds the tokens of every pass; ``held`` weak references to what failed passes had computed.
    """

    def __init__(self, monkeypatch, most: int, error: Exception | None = None) -> None:
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.passes: list[int] = []
        self.held: list[weakref.ref] = []
        forward = Scorer.forward

        def limited(scorer, trie, *args, **kwargs):
            assert not any(ref() is not None for ref in self.held), "a failed pass holds its memory"
            computed = forward(scorer, trie, *args, **kwargs)["logits"]
            tokens = self._count(trie)
            self.passes.append(tokens)
            if tokens > self.most:
                self.held.append(weakref.ref(computed))
                raise type(self.error)(*self.error.args)
            return {"logits": computed}

        monkeypatch.setattr(Scorer, "forward", limited)

    @staticmethod
    def _count(trie) -> int:
        """Nodes of the batch, shared beginnings once."""
        return len(trie.ids)


def tokens_of(predictor, texts):
    return [len(predictor.method.encode(text).ids) for text in texts]


def test_without_want_of_memory_passes_are_as_ever(adapter, monkeypatch):
    predictor = SentimentPredictor.from_folder(adapter)
    seen = []
    forward = Scorer.forward

    def watch(scorer, trie, *args, **kwargs):
        seen.append(len(trie.reads))
        return forward(scorer, trie, *args, **kwargs)

    monkeypatch.setattr(Scorer, "forward", watch)
    predictor.log_probs(TEXTS)
    assert seen == [len(batch) for batch in token_batches(tokens_of(predictor, TEXTS), 1024)]
    assert predictor.budget == 1024


def test_out_of_memory_halves_the_passes_and_changes_no_result(adapter, monkeypatch, capsys, error):
    whole = SentimentPredictor.from_folder(adapter).log_probs(TEXTS)
    memory, done = Memory(monkeypatch, 260, error), []
    predictor = SentimentPredictor.from_folder(adapter)
    np.testing.assert_allclose(predictor.log_probs(TEXTS, progress=done.append), whole, atol=1e-5)
    assert sum(done) == len(TEXTS)
    assert predictor.budget < 1024
    said = capsys.readouterr().err
    assert said.count("内存不足") == 1
    assert f"减为 {predictor.budget:,} token" in said
    failed = len(memory.held)
    assert failed
    predictor.log_probs(TEXTS)
    assert len(memory.held) == failed, "the lower budget is kept"
    assert predictor.zero_shot().passes is predictor.passes
    assert "内存不足" not in capsys.readouterr().err


def test_finished_passes_are_not_computed_again():
    rows, computed, room = [10] * 100, [], iter([9000, 9000, 5, 9000])

    def compute(batch):
        if len(batch) > next(room, 9000):
            raise MemoryError
        computed.extend(batch.tolist())

    passes = Passes(200)
    passes.tell = lambda _: None
    passes.run(rows, compute)
    assert sorted(computed) == list(range(100))
    assert computed[:40] == list(range(40)), "two passes were done before memory ran out"
    assert passes.budget == 100


def test_int8_goes_the_same_way(adapter, monkeypatch):
    predictor = SentimentPredictor.from_folder(adapter, precision="int8")
    predictor._close_call = float("inf")  # every row is taken again in full
    whole = predictor.log_probs(TEXTS)
    Memory(monkeypatch, 260)
    np.testing.assert_allclose(predictor.log_probs(TEXTS), whole, atol=0.05)
    assert predictor.budget < 1024


def test_an_explanation_goes_the_same_way(adapter, monkeypatch):
    predictor = SentimentPredictor.from_folder(adapter)
    text = "房间很好，早餐也丰富，就是隔音太差，半夜一直很吵，前台态度不错。"
    whole = explain(text, predictor.log_probs)
    Memory(monkeypatch, 260)
    again = explain(text, predictor.log_probs)
    assert predictor.budget < 1024
    for one, other in zip((*again.clauses, *again.words), (*whole.clauses, *whole.words), strict=True):
        assert one.text == other.text
        assert one.effect == pytest.approx(other.effect, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "gigabytes", "tokens"),
    [("cpu", 0, 1024), ("cuda", 4, 4096), ("cuda", 8, 4096), ("cuda", 12.6, 16384), ("cuda", 80, 16384)],
)
def test_a_small_gpu_begins_with_smaller_passes(kind, gigabytes, tokens, monkeypatch):
    card = type("Card", (), {"total_memory": int(gigabytes * 1e9)})()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert pass_tokens(torch.device(kind)) == tokens


# ── a row that does not fit ───────────────────────────────────────────────────────────────────────────────────────


def too_long(predictor, monkeypatch):
    """Memory for every one of TEXTS, but not for LONG."""
    (most,) = tokens_of(predictor, [LONG])
    return Memory(monkeypatch, most - 1)


def test_a_row_that_does_not_fit_alone_is_named(adapter, monkeypatch):
    predictor = SentimentPredictor.from_folder(adapter)
    too_long(predictor, monkeypatch)
    with pytest.raises(MemoryShortError, match=r"一条 \d+ token 的文本也放不下") as caught:
        predictor.predict(LONG)
    assert isinstance(caught.value, ModelError)
    assert "关掉别的" in caught.value.todo
    assert caught.value.__context__ is None
    assert predictor.predict("很好").label in predictor.task.labels


def test_on_the_command_line_it_is_one_message_and_exit_code_2(adapter, monkeypatch, capsys):
    Memory(monkeypatch, 3)
    assert exit_on_error(command.main, ["--model_path", str(adapter), "--text", "酒店很好"]) == 2
    said = capsys.readouterr()
    assert "的文本也放不下" in said.err
    assert "怎么办" in said.err
    assert not said.out


def write(path, texts):
    path.write_text("text\n" + "".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_in_a_file_it_is_one_error_record(adapter, monkeypatch, tmp_path):
    path, output = write(tmp_path / "a.csv", [*TEXTS[:20], LONG, *TEXTS[20:]]), tmp_path / "o.jsonl"
    flags = ["--model_path", str(adapter), "--input", str(path), "--output", str(output)]
    assert command.main(flags) == 0
    whole = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    too_long(SentimentPredictor.from_folder(adapter), monkeypatch)
    assert command.main(flags) == 0
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(found) == 41
    assert [n for n, row in enumerate(found) if row["error"]] == [20]
    assert "放不下" in found[20]["error"]
    assert "关掉别的" in found[20]["error"]
    for one, other in zip(found[:20] + found[21:], whole[:20] + whole[21:], strict=True):
        assert one["label"] == other["label"]
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)


def test_a_window_is_not_taken_again_while_the_error_is_alive(adapter, monkeypatch):
    """``Memory`` asserts it: nothing that a failed pass made is there when the next one begins."""
    predictor = SentimentPredictor.from_folder(adapter)
    memory = too_long(predictor, monkeypatch)
    gc.disable()  # so that only what is not referred to is gone
    try:
        found = score_window(predictor, [Question(text) for text in [*TEXTS[:5], LONG]])
    finally:
        gc.enable()
    assert [result.error is None for result in found] == [True] * 5 + [False]
    assert memory.held


def test_no_memory_at_all_ends_the_job_which_then_goes_on(adapter, monkeypatch, tmp_path, capsys):
    path, output = write(tmp_path / "a.csv", TEXTS * 30), tmp_path / "o.jsonl"
    flags = ["--model_path", str(adapter), "--input", str(path), "--output", str(output)]
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        memory = Memory(patch, 100_000)
        patch.setattr(shards.Shards, "append", _then(shards.Shards.append, lambda: setattr(memory, "most", 0)))
        assert exit_on_error(command.main, flags) == 2
    said = capsys.readouterr().err
    assert "的文本也放不下" in said
    assert "512 行的结果留着：同一条命令接着算" in said
    assert not output.exists()
    assert command.main(flags) == 0
    assert "接着上次：已有 512 行" in capsys.readouterr().err
    assert len(read_table(output).rows) == len(TEXTS) * 30


def _then(method, after):
    def both(*args):
        method(*args)
        after()

    return both


# ── a GPU that is lost ────────────────────────────────────────────────────────────────────────────────────────────


class Lost:
    """From the ``good``-th pass on every one fails as after an illegal memory access."""

    def __init__(self, monkeypatch, good: int = 0) -> None:
        self.passes, forward = 0, Scorer.forward

        def fail(scorer, *args, **kwargs):
            self.passes += 1
            if self.passes > good:
                raise torch.AcceleratorError(LOST)
            return forward(scorer, *args, **kwargs)

        monkeypatch.setattr(Scorer, "forward", fail)


def test_a_lost_gpu_is_one_message(adapter, monkeypatch, capsys):
    Lost(monkeypatch)
    with pytest.raises(DeviceLostError, match="显卡出错"):
        SentimentPredictor.from_folder(adapter).predict("很好")
    assert exit_on_error(command.main, ["--model_path", str(adapter), "--text", "酒店很好"]) == 2
    said = capsys.readouterr().err
    assert "illegal memory access" in said
    assert "zhsenti doctor" in said


def test_a_lost_gpu_ends_a_dialogue_and_want_of_memory_does_not(adapter, monkeypatch, capsys):
    flags = ["--model_path", str(adapter), "--interactive", "--json"]
    too_long(SentimentPredictor.from_folder(adapter), monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{LONG}\n很好\n"))
    assert exit_on_error(command.main, flags) == 0
    said = capsys.readouterr()
    assert "的文本也放不下" in said.err
    assert len(said.out.splitlines()) == 1
    Lost(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO("很好\n很差\n"))
    assert exit_on_error(command.main, flags) == 2
    assert capsys.readouterr().err.count("显卡出错") == 1


def test_a_lost_gpu_ends_the_job_at_once_and_the_same_command_goes_on(adapter, monkeypatch, tmp_path, capsys):
    path, output = write(tmp_path / "a.csv", TEXTS * 30), tmp_path / "o.jsonl"
    flags = ["--model_path", str(adapter), "--input", str(path), "--output", str(output)]
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.0)
    predictor = SentimentPredictor.from_folder(adapter)
    first = len(token_batches(tokens_of(predictor, (TEXTS * 30)[:512]), 1024))
    with monkeypatch.context() as patch:
        lost = Lost(patch, good=first)
        assert exit_on_error(command.main, flags) == 2
        assert lost.passes == first + 1, "no further row was tried"
    said = capsys.readouterr().err
    assert "显卡出错" in said
    assert "512 行的结果留着：同一条命令接着算" in said
    assert command.main(flags) == 0
    assert "接着上次：已有 512 行" in capsys.readouterr().err
    rows = read_table(output).rows
    assert len(rows) == len(TEXTS) * 30
