"""Small files that say they are enormous: refused, or read within a little memory."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest

from tests import forked
from tests.data.files import write, write_xlsx
from tests.paths import ENV
from zhsenti.core.errors import DataError
from zhsenti.data.excel import read_excel
from zhsenti.data.read import open_rows

pytestmark = pytest.mark.hostile
FAR = [
    '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
    '<row r="1"><c r="A1"><v>1</v></c></row><row r="3001"><c r="DKK3001"><v>1</v></c></row>',
    "<row r='1'><c r='A1'><v>1</v></c></row><row r='1048576'><c s='>' r = 'XFD1048576'><v>1</v></c></row>",
    '<x:row r="1"><x:c r="A1"><x:v>1</x:v></x:c></x:row><x:row r="9"><x:c r="xfd1048576"><x:v>1</x:v></x:c></x:row>',
    f'<row r="1048576"><c><v>1</v></c></row><row r="1">{"<c/>" * 3000}<c><v>1</v></c></row>',
    f'<row r="1"><c r="A1"><v>1</v></c>{" " * 900_000}</row>'
    f'<row><c {"a" * 200_000}="1" r="XFD1048576"><v>1</v></c></row>',
]


def workbook(path, sheet_data):
    """``write_xlsx``'s workbook with other cells."""
    write_xlsx(path, [["text"]])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name).decode() for name in book.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    head = '<worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    parts["xl/worksheets/sheet1.xml"] = re.sub(
        r"<sheetData>.*</sheetData>", lambda _: f"<sheetData>{sheet_data}</sheetData>", sheet
    ).replace("<worksheet ", head, 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in parts.items():
            book.writestr(name, text)
    return path


@pytest.mark.parametrize("sheet_data", FAR)
def test_cells_far_apart_are_refused_before_the_sheet_is_read(sheet_data, tmp_path):
    """Its reader would ask for all cells between them, up to 512 GB, and abort the process."""
    path = workbook(tmp_path / "far.xlsx", sheet_data)
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="跨得太大"):
        read_excel(path)


@pytest.mark.parametrize("slash", ["\\", "/"])
@pytest.mark.parametrize("member", ["xl/worksheets/sheet1.xml", "xl/_rels/workbook.xml.rels", "xl/workbook.xml"])
@pytest.mark.parametrize("change", [str, str.upper])
def test_no_spelling_of_a_members_name_hides_a_sheet(member, slash, change, tmp_path):
    """The reader finds members with backslashes and in any case."""
    with zipfile.ZipFile(workbook(tmp_path / "far.xlsx", FAR[0])) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(tmp_path / "hidden.xlsx", "w") as book:
        for name, data in parts.items():
            info = zipfile.ZipInfo("x")
            info.filename = change(name).replace("/", slash) if name == member else name
            book.writestr(info, data)
    with pytest.raises(DataError):
        read_excel(tmp_path / "hidden.xlsx")


def test_every_command_refuses_such_a_workbook(tmp_path):
    path = workbook(tmp_path / "far.xlsx", FAR[0])
    for words in (["audit", path], ["predict", "--input", path], ["train", "--dataset", path]):
        done = subprocess.run(
            [sys.executable, "-m", "zhsenti", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_far_cells_without_a_value_do_not_count(tmp_path):
    """Formatting that reaches to the end of a sheet is in every other workbook."""
    cells = '<row r="1"><c r="A1" t="inlineStr"><is><t>text</t></is></c></row>'
    cells += '<row r="2"><c r="A2" t="inlineStr"><is><t>很好</t></is></c><c r="XFD2" s="1"/></row>'
    content = read_excel(workbook(tmp_path / "styled.xlsx", cells + '<row r="1048576" s="1"/>'))
    assert content.columns == ["text"]
    assert [row.values for row in content.rows] == [["很好"]]


def test_another_zip_file_is_no_workbook(tmp_path):
    """An .ods says "this cell 16,384 times" in a few bytes, and its reader would be chosen by what is inside."""
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("content.xml", "<x/>")
    with pytest.raises(DataError, match=r"不是 \.xlsx"):
        read_excel(path)


def test_a_table_full_of_cells_is_read_whatever_its_size(tmp_path):
    path = write_xlsx(tmp_path / "full.xlsx", [[f"c{n}" for n in range(50)], *([["好"] * 50] * 400)])
    assert sum(1 for row in read_excel(path).rows if row.values == ["好"] * 50) == 400


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────────

MEASURE = """
import resource, sys
from pathlib import Path
import pyarrow.parquet
from zhsenti.data.parquet import read_parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for row in read_parquet(Path(sys.argv[1])).rows)
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is of Unix")
@pytest.mark.parametrize(
    ("column", "most"),
    [
        (["好" * 33_000] * 1000, 100),  # at once they took 268 MB
        (["x" * 1_000_000] * 1000, 250),  # 2.5 GB
        ([["a" * 1000] * 300] * 1000, 250),
    ],
)
def test_a_few_bytes_of_parquet_do_not_fill_the_memory(column, most, tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path, compression="zstd")
    assert path.stat().st_size < 20_000
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, timeout=120)
    count, megabytes = done.stdout.split()
    assert (int(count), done.stderr) == (1000, "")
    assert float(megabytes) < most


def test_a_list_of_millions_in_a_row_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["好", "坏"], "v": [[1] * 3_000_000] * 2}), path)
    from zhsenti.data.parquet import read_parquet

    with pytest.raises(DataError, match="列表太长"):
        read_parquet(path)


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_a_million_columns_are_refused_in_every_format(suffix, tmp_path):
    """They took hours: names are compared with names."""
    count = 1_000_000 if suffix in (".csv", ".tsv") else 20_000
    columns = ["text", *(f"c{n}" for n in range(count))]
    path = tmp_path / f"wide{suffix}"
    row = ["很好", *["1"] * count]
    if count > 20_000:
        mark = "," if suffix == ".csv" else "\t"
        path.write_text(f"{mark.join(columns)}\n{mark.join(row)}\n", encoding="utf-8")
    else:
        write(path, [row] * 2, columns)
    with pytest.raises(DataError, match=r"列太多|键太多"):
        open_rows(path)
    done = forked.run(["-m", "zhsenti", "audit", str(path)], cwd=tmp_path, env=ENV, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
