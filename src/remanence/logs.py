"""Logs: one line of `key=value` on standard error for each event, tracebacks without local variables.

A library does not configure logging behind an application's back: `configure` does nothing when structlog was set up
already. Standard output is never written to; it belongs to the answers of the command line.

A log that cannot be written (a full disk, a terminal that is gone) stops nobody's work: the line is lost.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

__all__ = ["LEVELS", "StandardError", "configure"]

LEVELS = ("debug", "info", "warning", "error")
_TRACEBACK_CHARACTERS_MAX = 8_000


class StandardError:
    """What standard error is at each moment, as a file that never fails."""

    def write(self, text: str) -> None:
        """Write what can be written."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """As far as it goes."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(level: str = "warning", *, json: bool = False) -> None:
    """Send events of `level` and above to standard error, as `key=value` or as JSON lines."""
    if structlog.is_configured():
        return
    renderer = structlog.processors.JSONRenderer() if json else structlog.processors.LogfmtRenderer(sort_keys=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", StandardError())),
        cache_logger_on_first_use=False,
    )


def _bounded(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Tracebacks are cut from the front: what was raised stands at their end."""
    trace = event.get("exception")
    if isinstance(trace, str) and len(trace) > _TRACEBACK_CHARACTERS_MAX:
        event["exception"] = "..." + trace[-_TRACEBACK_CHARACTERS_MAX:]
    return event
