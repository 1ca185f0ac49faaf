"""The request log: a line of JSON for every request, with its id, what was done and what it cost; nobody's words."""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import WatchedFileHandler
from typing import Any


class RequestLog:
    """Where requests are noted.

    Args:
      path: of a file that grows, and may be moved away meanwhile; "-" is the standard output; None notes nothing.

    Raises:
      OSError: it cannot be written.
    """

    def __init__(self, path: str | None):
        self._handler: logging.Handler | None = None
        if path:
            self._handler = (
                logging.StreamHandler(sys.stdout) if path == "-" else WatchedFileHandler(path, encoding="utf-8")
            )
            self._handler.setFormatter(logging.Formatter("%(message)s"))

    def note(self, said: dict[str, Any]) -> None:
        """Write what is known of a request when its last byte is sent."""
        if self._handler is not None:
            line = json.dumps({"time": round(time.time(), 3), **said})
            self._handler.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))

    def close(self) -> None:
        """Let go of the file."""
        if self._handler is not None:
            self._handler.close()
