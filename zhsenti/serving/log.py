"""The service's log: JSON lines, and nothing in them that a client sent."""

from __future__ import annotations

import json
import logging
import sys
import time

log = logging.getLogger("zhsenti.serving")


def log_failure(event: str, error: BaseException, **fields: object) -> None:
    """Log the kind of ``error`` and where it arose, without its words: they may quote a review.

    Args:
        event: What failed, for programs.
        error: Why.
        fields: More for the log line.
    """
    places, step = [], error.__traceback__
    while step:
        places.append(f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}")
        step = step.tb_next
    log.error(event, extra={"fields": {"error": type(error).__name__, "at": places[-8:], **fields}})


def log_smaller_passes(message: str) -> None:
    """Log that memory ran out and that the model goes on in smaller passes."""
    log.warning("smaller_passes", extra={"fields": {"message": message}})


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, event, and the record's ``fields``.

    Of other libraries' records only the library is named: their messages may hold what a client sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        event = record.getMessage() if record.name == log.name else f"library:{record.name}"
        values = {"time": when, "level": record.levelname.lower(), "event": event}
        return json.dumps({**values, **getattr(record, "fields", {})}, ensure_ascii=False)


def log_as_json() -> None:
    """All of the process's log records as JSON lines on stderr; libraries' from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)
