"""Files for the tests of reading: tables in every format, with faults where wanted, and both doors they go through."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

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
    """The smallest workbook Excel and calamine accept; no writer library is a dependency."""

    def cell(value):
        if isinstance(value, (int, float)):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'

    cells = f'<mergeCells count="1"><mergeCell ref="{merged}"/></mergeCells>' if merged else ""
    sheet = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    main, rels = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{rels}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rels}"><sheets>'
        '<sheet name="评论" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{rels}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{sheet}</sheetData>{cells}</worksheet>',
    }
    with zipfile.ZipFile(path, "w") as book:
        for name, text in parts.items():
            book.writestr(name, text)
    return path
