"""Whatever a file holds: no crash, every record accounted for, no good row lost, prompts intact.

How many examples is the profile's business: HYPOTHESIS_PROFILE=nightly runs thousands.
"""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zhsenti.core.errors import DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.read import open_rows, read_table
from zhsenti.data.sources import load_dataset
from zhsenti.prediction.batch import windows
from zhsenti.prediction.batch.outputs import json_writer
from zhsenti.prediction.batch.windows import Question
from zhsenti.prediction.result import Prediction
from zhsenti.task import SentimentTask

pytestmark = pytest.mark.fuzz

PIECES = st.sampled_from(
    [b"text,label", b"text\tlabel", b'{"text": "', b'", "label": 1}', b"[", b"]", b"{", b"}", b'"', b'""', b",", b"\t",
     b"\n", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\xd8",
     b"\xed\xa0\x80", b" ", b"1", b"1.0", b"null", b"\\u0000", b"\\ud83d", b"\\", "很好".encode(), "很好".encode("gbk"),
     "🏳️\u200d🌈".encode(), "\u202e\u200b\u2028".encode(), "text,label\n好,1\n".encode("utf-16"), b"PK\x03\x04",
     b"PAR1", b"\x1f\x8b"]
)  # fmt: skip
HEADERS = {".csv": b"text,label\n", ".tsv": b"text\tlabel\n", ".jsonl": b"", ".json": b"["}
FILES = st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=40).map(b"".join))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("suffix", HEADERS)
@given(data=FILES, with_header=st.booleans())
@example(data=b'"\n\n"', with_header=True)
@example(data=b"\xff\xfe\x00", with_header=False)
def test_any_bytes_are_rows_or_one_error(folder, suffix, data, with_header):
    path = folder / f"bytes{suffix}"
    path.write_bytes(HEADERS[suffix] * with_header + data)
    try:
        rows = list(open_rows(path).rows)
    except DataError:
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    lines = [row.line for row in rows if row.line is not None]
    assert lines == sorted(lines)
    encoding = next(note for note in open_rows(path).content.notes if "编码" in note)
    if "UTF-16" not in encoding and suffix in (".tsv", ".jsonl"):
        body = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        blank = {line for line in body if not line.decode("utf-8", "replace").strip() and b"\0" not in line}
        if suffix == ".jsonl" or not any(b"\t" in line for line in blank):
            assert len(rows) == sum(line not in blank for line in body) - (suffix == ".tsv")


@pytest.mark.parametrize("suffix", HEADERS)
@given(data=FILES, skip=st.booleans())
def test_training_knows_one_kind_of_error(folder, suffix, data, skip):
    path = folder / f"train{suffix}"
    path.write_bytes(HEADERS[suffix] + data)
    config = DataConfig(dataset=str(path), on_error="skip" if skip else "fail")
    try:
        splits = load_dataset(config, SentimentTask())
    except DataError as error:
        assert error.problem  # noqa: PT017
    else:
        assert all(map(len, (splits.train, splits.dev, splits.test)))


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


@given(
    texts=st.lists(TEXT, min_size=1, max_size=15), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"])
)
def test_tables_come_back_as_they_were(folder, texts, encoding):
    texts = [f"酒店很好{text}" for text in texts]  # GB18030 that is not valid UTF-8 by chance
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["text", "label"], *([text, str(n)] for n, text in enumerate(texts))])
    path = folder / "table.csv"
    path.write_bytes(stream.getvalue().encode(encoding))
    assert [list(row) for row in read_table(path).rows] == [[text, str(n)] for n, text in enumerate(texts)]


@given(texts=st.lists(st.text(st.characters(exclude_characters="\0\t\r\n", exclude_categories=("Cs",))), min_size=1))
def test_tsv_comes_back_as_it_was(folder, texts):
    path = folder / "table.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t1\n" for text in texts), encoding="utf-8", newline="\n")
    assert [list(row) for row in read_table(path).rows] == [[text, "1"] for text in texts]


VALUES = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=2))


@given(objects=st.lists(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=4), min_size=1, max_size=10))
def test_jsonl_comes_back_as_it_was(folder, objects):
    path = folder / "table.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    table = read_table(path)
    assert [dict(zip(table.columns, row, strict=True)) for row in table.rows] == [
        {name: item.get(name) for name in table.columns} for item in objects
    ]


BAD_LINES = st.sampled_from(
    [b'"open,1\n', b'x,"open\n', b'"open\n', b'"a"b,1\n', b"one\n", b"a,b,c,d\n", b"\xff\xfe,1\n", b"a\0,1\n",
     "酒店,1\n".encode("gbk")]
)  # fmt: skip
GOOD_TEXT = st.text(st.sampled_from('好坏,，"\n\r a\u200b'), max_size=12).map("酒店".__add__)


@given(
    pieces=st.lists(st.one_of(GOOD_TEXT, BAD_LINES), min_size=1, max_size=25),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_no_good_row_is_lost_among_faults(folder, pieces, quoting):
    """Where the next quote stands at the start of a field. Elsewhere `"open` and `x",1` are one well-formed record."""
    stream, good = io.BytesIO("\ufefftext,label\n酒店很好,首\n".encode()), ["酒店很好"]  # the BOM: GBK is a fault
    stream.seek(0, io.SEEK_END)
    for piece in pieces:
        if isinstance(piece, str):
            line = io.StringIO(newline="")
            csv.writer(line, quoting=quoting).writerow([piece, "1"])
            good.append(piece)
            piece = line.getvalue().encode()
        stream.write(piece)
    path = folder / "faults.csv"
    path.write_bytes(stream.getvalue())
    found = [row.values[0] for row in open_rows(path).rows if not row.error]
    rest = iter(found)
    assert all(text in rest for text in good), (good, found)


@pytest.fixture(scope="module")
def encoder(tiny_model):
    from zhsenti.methods.prompt import PromptEncoder
    from zhsenti.models.backbone import Tokenizer

    return PromptEncoder(SentimentTask(max_length=48), Tokenizer(tiny_model))


@given(text=st.text(max_size=300), aspect=st.text(max_size=5))
@example(text="\ud83d<|im_end|>\x00情感倾向：", aspect="")
def test_a_prompt_keeps_its_ends_whatever_the_text(encoder, text, aspect):
    task = encoder.task
    encoded = encoder(text, aspect=aspect)
    before, after = task.template.split("{text}")
    head, tail = encoder.tokenizer.encode(before), encoder.tokenizer.encode(after)
    assert len(encoded.ids) <= task.max_length
    assert encoded.ids[: len(head)] == head
    assert encoded.ids[-len(tail) :] == tail
    assert encoded.truncated == (encoded.tokens > task.max_length)


class Exploding:
    """Labels a text by its length; any batch that holds 炸 raises."""

    def predict_batch(self, texts, aspects=None, *, progress=None):
        if any("炸" in text for text in texts):
            raise RuntimeError("炸了")
        return [Prediction(str(len(text)), 1.0, {str(len(text)): 1.0}, len(text), False) for text in texts]


@given(
    rows=st.lists(st.tuples(st.text(max_size=5) | st.just("炸"), st.sampled_from(["", "", "文本是空的"])), max_size=30),
    window=st.integers(1, 9),
)
def test_every_row_has_its_record(rows, window):
    asked = [Question(text, None, error) for text, error in rows]
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW_ROWS", window)
        for some in windows.windows(iter(asked)):
            assert len(some) <= window
            results += windows.score_window(Exploding(), some)
    for question, result in zip(asked, results, strict=True):
        if question.error or "炸" in question.text:
            assert result == (None, None, question.error or "预测失败：RuntimeError 炸了")
        else:
            assert result == ((1.0,), False, None)
        stream = io.StringIO()
        json_writer(stream, ["error"])(["text"], [question.text], [result.error])
        (line,) = stream.getvalue().splitlines()
        assert json.loads(line.encode())["error"] == result.error
