"""What tests of batch jobs share."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import KeywordPredictor
from zhsenti.data.read import read_table
from zhsenti.prediction.batch.job import predict_file
from zhsenti.prediction.config import PredictConfig
from zhsenti.task import SentimentTask


class Stopping(KeywordPredictor):
    """Fails as a full disk would, in its second window."""

    def predict_batch(self, texts, aspects=None, *, progress=None):
        if len(self.calls) == 1:
            raise OSError(28, "No space left on device")
        return super().predict_batch(texts, aspects, progress=progress)


def run(path, output, load=KeywordPredictor, model=None, **flags):
    """The job."""
    predict_file(PredictConfig(input=str(path), output=str(output), **flags), SentimentTask(), load, model)


def score(path, output, load=KeywordPredictor, model=None, **flags):
    """The job, and the rows of its result."""
    run(path, output, load, model, **flags)
    return read_table(Path(output))


def write_reviews(path: Path, rows: int) -> Path:
    """A CSV of so many different rows; every second one is good."""
    lines = [f"第{n}次{'很好' if n % 2 else '很差'}\n" for n in range(rows)]
    path.write_text("text\n" + "".join(lines), encoding="utf-8")
    return path


def fail_after(monkeypatch, owner, name, calls, error=None):
    """``owner.name`` raises ``error``, by default a full disk's, from its ``calls``-th call on."""
    real, count = getattr(owner, name), iter(range(10_000))

    def write(*args, **flags):
        if next(count) >= calls:
            raise error or OSError(28, "No space left on device")
        return real(*args, **flags)

    monkeypatch.setattr(owner, name, write)
