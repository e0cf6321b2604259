"""Files for the tests of reading: tables in every format, with faults where wanted, and both doors they go through."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import KeywordPredictor
from zhsenti.core.errors import DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.sources import load_dataset
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask

ROWS = [(f"第{i}家酒店的房间{'很干净' if i % 2 else '很脏'}，“下次”再说", i % 2) for i in range(60)]
GOOD = [(f"第{i}家酒店{'很好' if i % 2 else '很差'}", i % 2) for i in range(60)]
HALF = 30


def train(path: Path, **changes):
    return load_dataset(DataConfig(dataset=str(path), **changes), SentimentTask())


def kept(splits) -> list[tuple[str, int]]:
    rows = [*splits.train, *splits.dev, *splits.test]
    return [(e.text, e.label) for e in sorted(rows, key=lambda e: e.row)]


PLACE = re.compile(r"^(第 (\d+) 行(（数据行 \d+）)?|数据行 \d+)")


def predict(path: Path, **changes) -> list[dict]:
    """Records in order; ``line`` is taken from the error of a row that could not be read, where it stands."""
    output = path.parent / f"{path.name}.scored.jsonl"
    config = PredictConfig(input=str(path), output=str(output), **changes)
    predict_file(config, SentimentTask(), KeywordPredictor)
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for number, record in enumerate(records, start=1):
        place = PLACE.match(record["error"] or "")
        record |= {"row": number, "line": place and place[2] and int(place[2])}
        record["error"] = record["error"] and PLACE.sub("", record["error"])
        if "predicted_label" in record:
            record["label"] = record["predicted_label"]
    return records


def csv_bytes(bad: bytes, encoding: str = "utf-8", mark: str = ",") -> bytes:
    """A table with ``bad`` after 30 of its 60 good rows."""
    lines = [f"{text}{mark}{label}\n" for text, label in GOOD]
    return (
        "".join([f"text{mark}label\n", *lines[:HALF]]).encode(encoding) + bad + "".join(lines[HALF:]).encode(encoding)
    )


def jsonl_bytes(bad: bytes) -> bytes:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in GOOD]
    return "".join(lines[:HALF]).encode() + bad + "".join(lines[HALF:]).encode()


def both_doors_say(path: Path, *parts: str) -> None:
    for on_error in ("fail", "skip"):
        with pytest.raises(DataError) as training:
            train(path, on_error=on_error)
        assert all(part in str(training.value) for part in parts), str(training.value)
    loaded, output = [], path.with_name("out.jsonl")
    config = PredictConfig(input=str(path), output=str(output))
    with pytest.raises(DataError) as prediction:
        predict_file(config, SentimentTask(), lambda: loaded.append(1))
    assert all(part in str(prediction.value) for part in parts), str(prediction.value)
    assert not loaded, "the model was loaded for a file that cannot be read"
    assert not os.path.lexists(output)


# ── every format ──────────────────────────────────────────────────────────────────────────────────────────────────


def write(path, rows=ROWS, columns=("text", "label"), encoding="utf-8"):
    suffix = path.suffix
    if suffix in (".csv", ".tsv"):
        mark = "," if suffix == ".csv" else "\t"
        quote = (lambda t: f'"{t}"') if suffix == ".csv" else str
        lines = [mark.join(columns), *(f"{quote(text)}{mark}{label}" for text, label in rows)]
        path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    elif suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_bytes("\n".join(lines).encode(encoding))
    elif suffix == ".json":
        values = [dict(zip(columns, row, strict=True)) for row in rows]
        path.write_bytes(json.dumps(values, ensure_ascii=False).encode(encoding))
    elif suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columnar = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
        pyarrow.parquet.write_table(pyarrow.table(columnar), path)
    else:
        write_xlsx(path, [columns, *rows])
    return path


def write_xlsx(path, rows, merged=""):
    """A workbook of one sheet; ``merged`` names cells that are one, such as A2:A3."""
    import xlsxwriter
    from xlsxwriter.utility import xl_cell_to_rowcol

    with xlsxwriter.Workbook(path, {"strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet("评论")
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
        if merged:
            row, column = xl_cell_to_rowcol(merged.partition(":")[0])
            sheet.merge_range(merged, rows[row][column])

    return path


# ── how much is read ──────────────────────────────────────────────────────────────────────────────────────────────


class _Counted(io.BufferedReader):
    """An open file that counts what is read of it."""

    total = 0

    def read(self, size=-1, /):
        data = super().read(size)
        _Counted.total += len(data)
        return data

    def read1(self, size=-1, /):
        data = super().read1(size)
        _Counted.total += len(data)
        return data

    def readline(self, size=-1, /):
        data = super().readline(size)
        _Counted.total += len(data)
        return data


def count_bytes(monkeypatch, prefix: str = "") -> Callable[[], int]:
    """A function: how many bytes of files that are called ``prefix``… have been read since it was called last."""
    plain = Path.open

    def counted(path, mode="r", *rest, **more):
        if mode == "rb" and path.name.startswith(prefix):
            return _Counted(io.FileIO(path, mode))
        return plain(path, mode, *rest, **more)

    def since() -> int:
        total, _Counted.total = _Counted.total, 0
        return total

    monkeypatch.setattr(Path, "open", counted)
    since()
    return since
