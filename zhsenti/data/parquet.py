"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zhsenti.core.errors import DataError
from zhsenti.data.formats import Content, Row

if TYPE_CHECKING:
    import pyarrow

# A page of a few bytes may say "a thousand times this long text": rows are taken in batches small enough that this many
# of the longest texts fit into memory, and made into Python's values in parts of so many bytes.
BATCH, PART_BYTES = 32, 4 << 20
MOST_IN_A_LIST = 20_000


def read_parquet(path: Path) -> Content:
    """Rows of a Parquet file.

    Raises:
        DataError: It is no whole Parquet file; also while rows are read.
    """
    import pyarrow
    import pyarrow.parquet

    def broken(error: Exception) -> DataError:
        return DataError(f"{path} 不是完整的 Parquet 文件", found=str(error).partition("\n")[0][:200])

    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns, total = list(file.schema_arrow.names), file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise broken(error) from error
    _refuse_long_lists(path, file.metadata)
    done = 0

    def rows() -> Iterator[Row]:
        nonlocal done
        try:
            with file:
                for batch in file.iter_batches(batch_size=BATCH):
                    for part in _small_parts(batch):
                        for cells in zip(*map(_cells, part.columns), strict=True):
                            done += 1
                            yield Row(done, None, cells)
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(error) from error

    return Content(columns, rows(), total, share=lambda: done / max(total, 1), exact=True)


def _small_parts(batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    """``batch`` in parts whose values are few enough to be made at once; a row is never cut."""
    step = max(1, int(len(batch) * PART_BYTES / max(batch.nbytes, 1)))
    for start in range(0, len(batch), step):
        yield batch.slice(start, step)


def _refuse_long_lists(path: Path, metadata: pyarrow.parquet.FileMetaData) -> None:
    """Refuse a file whose lists hold so much that a few rows would fill the memory.

    Raises:
        DataError: It is one.
    """
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(group.num_columns):
            if metadata.schema.column(column).max_repetition_level:
                values, rows = group.column(column).num_values, max(group.num_rows, 1)
                if values / rows > MOST_IN_A_LIST:
                    raise DataError(
                        f"{path} 的列 {metadata.schema.column(column).path[:80]!r} 里的列表太长",
                        expected=f"平均一行不超过 {MOST_IN_A_LIST:,} 个值",
                        found=f"{values / rows:,.0f} 个",
                        todo="去掉这一列再存。",
                    )


def _cells(column: pyarrow.Array) -> list[object]:
    """A column of Parquet as Python values; text that is no UTF-8 stays bytes, which ``Source.cell`` names."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_bytes_or_text(cell) for cell in column]


def _bytes_or_text(cell: pyarrow.Scalar) -> object:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.as_buffer().to_pybytes()
