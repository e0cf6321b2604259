"""What a batch job scores: inputs, columns and what decides the scores. Small and picklable: workers get it, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhsenti.data.lines import survey
from zhsenti.data.read import open_rows
from zhsenti.prediction.batch import windows
from zhsenti.prediction.batch.windows import Window, find_columns, windows_of_rows

FORMAT = 1  # of a work folder
Json = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is scored.

    Attributes:
        files: The inputs in order, as the user named them.
        text_column: Name of the text column.
        aspect_column: Name of the aspect column, None where there is none.
        aspect: The aspect of all rows, None where a column holds it or the task has none.
        labels: The task's, in order.
        model: JSON; what decides the scores beside the rows.
        home: The folder that names begin from; workers stand in another one.
    """

    files: tuple[Path, ...]
    text_column: str
    aspect_column: str | None
    aspect: str | None
    labels: tuple[str, ...]
    model: Json
    home: Path = field(default_factory=Path.cwd)

    def windows(self, file: int) -> Iterator[Window]:
        """All windows of input number ``file``, in order, read as they are asked for.

        Raises:
            DataError: The input cannot be read.
        """
        source = open_rows(self.home / self.files[file])
        columns = find_columns(source, self.text_column, self.aspect_column, self.aspect)
        start = 0
        for _, questions in windows_of_rows(source.rows, source, columns):
            yield Window(file, start, questions)
            start += len(questions)

    def identity(self) -> Json:
        """What decides the results: two runs with the same one give the same.

        Raises:
            OSError: An input cannot be read.
        """
        return {
            "format": FORMAT,
            "window": [windows.WINDOW_ROWS, windows.WINDOW_CHARACTERS],
            "inputs": [[path.name, path.stat().st_size, survey(path).sha256] for path in self.files],
            "model": self.model,
            "columns": [self.text_column, self.aspect_column, self.aspect],
            "labels": list(self.labels),
        }
