"""Logs: one line on standard error for each event, tracebacks without local variables.

A library does not configure logging behind an application's back: `configure` does nothing when structlog was set up
already. The command line is the application, and calls `configure_command_line` first. Standard output is never written
to; it belongs to the answers of the command line.

A log that cannot be written (a full disk, a terminal that is gone) stops nobody's work: the line is lost.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

__all__ = ["configure", "configure_command_line", "configure_for_people"]

_TRACEBACK_CHARACTERS_MAX = 8_000


class _StandardError:
    """What standard error is at each moment, as a file that never fails."""

    def write(self, text: str) -> None:
        """Write what can be written."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """As far as it goes."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(level: str = "warning") -> None:
    """Send events of `level` and above to standard error, as `key=value` lines."""
    if not structlog.is_configured():
        _send(
            level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            structlog.processors.LogfmtRenderer(sort_keys=False),
        )


def configure_command_line(level: str, form: str) -> None:
    """The same as the settings want it (`log_level`, `log_format`): for people (`text`), or one JSON object a line."""
    if form == "text":
        configure_for_people(level)
    else:
        _send(
            level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            structlog.processors.JSONRenderer(default=repr),
        )


def configure_for_people(level: str) -> None:
    """The same as people read it: the time of their clock, colours on a terminal that wants them."""
    colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    _send(
        level,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        # Plain: a traceback with every local in it takes a busy server minutes to draw, and nothing else runs.
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    )


def _send(level: str, *processors: structlog.typing.Processor) -> None:
    structlog.configure(
        processors=list(processors),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )


def _bounded(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Tracebacks are cut from the front: what was raised stands at their end."""
    trace = event.get("exception")
    if isinstance(trace, str) and len(trace) > _TRACEBACK_CHARACTERS_MAX:
        event["exception"] = "..." + trace[-_TRACEBACK_CHARACTERS_MAX:]
    return event
