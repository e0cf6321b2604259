"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zhsenti.core.errors import DataError
from zhsenti.data.formats import Content, Row

if TYPE_CHECKING:
    import pyarrow


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
    done = 0

    def rows() -> Iterator[Row]:
        nonlocal done
        try:
            with file:
                for batch in file.iter_batches(batch_size=1024):
                    for cells in zip(*map(_cells, batch.columns), strict=True):
                        done += 1
                        yield Row(done, None, cells)
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(error) from error

    return Content(columns, rows(), total, share=lambda: done / max(total, 1), exact=True)


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
