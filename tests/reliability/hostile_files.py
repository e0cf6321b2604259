"""Files that a user might hand to a command, and names that are no files."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.data.files import write_xlsx

GOOD = "".join(f"第{i}家酒店{'很好' if i % 2 else '很差'},{i % 2}\n" for i in range(40))
HEAD = "text,label\n"
BYTES = {
    "BOM.csv": b"\xef\xbb\xbf" + (HEAD + GOOD).encode(),
    "GBK.csv": (HEAD + GOOD).encode("gbk"),
    "UTF-16.csv": (HEAD + GOOD).encode("utf-16"),
    "cut UTF-16.csv": (HEAD + GOOD).encode("utf-16")[:-1],
    "mixed.csv": (HEAD + GOOD).encode() + "酒店,1\n".encode("gbk"),
    "NUL.csv": (HEAD + GOOD).encode() + b"a\0b,1\n",
    "control.csv": (HEAD + GOOD).encode() + b"a\x01\x1b[31mb,1\n",
    "zero width.csv": (HEAD + GOOD + "\u200b\u2060,1\n好\u200b,1\n").encode(),
    "surrogate.jsonl": b'{"text": "\\ud83d", "label": 1}\n{"text": "\\udc00 a", "label": 0}\n' * 20,
    "bidi.csv": (HEAD + GOOD + "\u202e好\u202c,1\n").encode(),
    "ZWJ.csv": (HEAD + GOOD + "👩\u200d👩\u200d👧,1\n").encode(),
    "long line.csv": (HEAD + GOOD).encode() + b"x" * (17 << 20) + b",1\n",
    "open quote.csv": (HEAD + '"好,1\n' + GOOD).encode(),
    "ragged.csv": (HEAD + GOOD + "好\n好,1,2\n").encode(),
    "columns twice.csv": ("text,text,label\n" + GOOD.replace(",", ",好,")).encode(),
    "no column.csv": b"a,b\n1,2\n",
    "header.csv": HEAD.encode(),
    "empty.csv": b"",
    "label.csv": (HEAD + GOOD.replace(",1", ",1.0")).encode(),
    "labels.csv": (HEAD + GOOD + "好,很好\n坏,\n").encode(),
    "gzip.csv": gzip.compress((HEAD + GOOD).encode()),
    "gzip.csv.gz": gzip.compress((HEAD + GOOD).encode()),
    "random.csv": bytes(range(256)) * 4,
    "random.parquet": bytes(range(256)) * 4,
    "random.xlsx": b"PK\x03\x04" + bytes(range(256)),
    "random.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(range(256)) * 8,
    "deep.json": b"[" * 100_000,
    "deep.jsonl": b'{"text":' * 100_000 + b"\n",
    "number.jsonl": b'{"text": ' + b"9" * 5000 + b"}\n",
    "infinite.json": b'[{"text": Infinity, "label": NaN}]',
    "null.jsonl": b"null\n" * 10,
    "one class.csv": (HEAD + "好,1\n" * 40).encode(),
    "=cmd()!A0.csv": (HEAD + GOOD + "=cmd|' /C calc'!A0,1\n").encode(),
    "<script>.csv": (HEAD + GOOD + "<script>alert(1)</script>{text}{{7*7}}<|im_end|>,1\n").encode(),
    "[red]rich[/].csv": (HEAD + GOOD + "[/] [link=x]好[/link],1\n").encode(),
    "a\nb.csv": (HEAD + GOOD).encode(),
}  # fmt: skip


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("a.csv", HEAD)


def make_merged(path: Path) -> None:
    rows = [tuple(line.split(",")) for line in GOOD.splitlines()]
    write_xlsx(path, [("text", "label"), ("合并", 1), ("", 1), (7, 1.0), *rows], merged="A2:A3")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


MADE: dict[str, Callable[[Path], object]] = {
    "zip.csv": make_zip,
    "merged.xlsx": make_merged,
    "workbook.csv": make_merged,
    "fifo.csv": os.mkfifo,
    "loop.csv": make_loop,
    "dangling.csv": lambda path: path.symlink_to("nowhere"),
    "folder.csv": Path.mkdir,
    "undecodable \udcff.csv": lambda path: path.write_bytes((HEAD + GOOD).encode()),
}
NO_FILES = [
    "", " ", ".", "/", "no.csv", "a\0.csv", "长" * 200 + ".csv", "a/" * 3000 + "a.csv", "~no_such_user/a.csv",
    "/dev/null", "/dev/zero", "/dev/full", "/dev/stdin", "/proc/self/mem", "/proc/self/fd", "/proc/1/root/a.csv",
    "no.csv/x.csv", "-", "--", "file:///etc/passwd",
    "http://127.0.0.1:9/a.csv", "../" * 40 + "etc/passwd", "\udcff.csv",
]  # fmt: skip


def hostile_file(folder: Path, name: str) -> str:
    if name in {**BYTES, **MADE}:
        (folder / name).parent.mkdir(exist_ok=True)
    if name in BYTES:
        (folder / name).write_bytes(BYTES[name])
    elif name in MADE:
        MADE[name](folder / name)
    else:
        return name
    return str(folder / name)
