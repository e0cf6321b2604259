"""The small data sets and the rows to score that both sides are given, from a data set's train, dev and test files."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

from checkout import SEED, SETTINGS


def read_split(folder: Path, name: str) -> list[tuple[str, str]]:
    """Rows of a split's CSV or TSV, which has a column ``label`` and one more.

    Returns:
        (text, label) of each.

    Raises:
        SystemExit: There is no such file.
    """
    path = next((path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in (".tsv", ".csv")), None)
    if path is None:
        raise SystemExit(f"错误：{folder} 里没有 {name}.tsv 或 {name}.csv，用 --dataset 给出 ChnSentiCorp 的文件夹")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        tabs = path.suffix == ".tsv"
        head, *rows = csv.reader(stream, **({"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}))
    label = head.index("label")
    return [(row[1 - label], row[label]) for row in rows if len(row) == 2]


def write_csv(path: Path, head: tuple[str, ...], rows: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def write_inputs(dataset: Path, work: Path) -> None:
    """``data`` (a small dataset), ``scores.csv``, ``speed.csv`` and the three ``batch`` files."""
    import pyarrow
    import pyarrow.parquet

    chance, everything = random.Random(SEED), []
    for name, count in SETTINGS["splits"].items():
        rows = read_split(dataset, name)
        everything += rows
        write_csv(work / f"data/{name}.csv", ("text", "label"), chance.sample(rows, min(count, len(rows))))
    chars, count = SETTINGS["chars"], SETTINGS["rows"]
    texts = chance.sample(sorted({text for text, _ in everything if len(text) <= chars["most"]}), count["speed"])
    texts[1 : 1 + chars["long_rows"]] = sorted((text for text, _ in everything), key=len)[-chars["long_rows"] :]
    texts[20:22] = ['他说："还行"，\n第二行, 就这样 😀', ""]  # the empty one becomes a row with an error
    for name in ("scores", "speed"):
        write_csv(work / f"{name}.csv", ("id", "text"), list(enumerate(texts[: count[name]])))
    table = [{"id": n, "text": text, "来源": f"店{n % 3}"} for n, text in enumerate(texts[: count["batch"]])]
    write_csv(work / "batch.csv", tuple(table[0]), [tuple(row.values()) for row in table])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
    (work / "batch.jsonl").write_text(lines, encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), work / "batch.parquet")


def texts_of(work: Path) -> list[str]:
    with (work / "scores.csv").open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]
