"""The server's own log: a constant sentence plus fields, as text for a person or as JSON for a collector,
because a sentence that never changes can be searched and counted.

Values of fields whose names look like secrets are never written.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

_SECRET = ("secret", "token", "password", "authorization", "credential")


class Log:
    """A named logger: `Log(__name__).info("Environment started.", environment=..., ms=...)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, sentence: str, **fields: Any) -> None:
        self._write(logging.DEBUG, sentence, fields)

    def info(self, sentence: str, **fields: Any) -> None:
        self._write(logging.INFO, sentence, fields)

    def warning(self, sentence: str, **fields: Any) -> None:
        self._write(logging.WARNING, sentence, fields)

    def error(self, sentence: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        self._write(logging.ERROR, sentence, fields, exc_info)

    def _write(
        self, level: int, sentence: str, fields: Mapping[str, Any], exc_info: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, sentence, extra={"fields": fields}, exc_info=exc_info)


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: "***" if any(word in name.lower() for word in _SECRET) else value
        for name, value in fields.items()
    }


def _one_line(value: Any) -> str:
    """A field's value as it is, or quoted when it holds what would end the line or drive a terminal: object
    keys and paths come from clients, who must not be able to write lines into the log."""
    text = str(value)
    return text if text.isprintable() else repr(text)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = _shown(getattr(record, "fields", {}))
        line = f"{at}.{int(record.msecs):03d} {record.levelname:<7} {record.getMessage()}"
        if fields:
            line += "  " + " ".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_shown(getattr(record, "fields", {})),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(*, form: str, level: str) -> None:
    """Sends every logger to stderr. `form`: "text" or "json"; `level`: a logging level's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lambent").setLevel(level.upper())
