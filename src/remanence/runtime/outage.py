"""What a worker says while the database does not answer: that it is so, and that it is over, each once.

A database that goes away is noticed at many places at once: by the loop that claims, by the one that renews leases, by
every session that has something to write. Each tries again by itself, ever less often. What a person wants to read is
one line when it begins and one when it ends; the rest is there at the level `debug`.
"""

from __future__ import annotations

import structlog

from remanence.errors import StoreError

__all__ = ["Outage"]

log = structlog.get_logger("remanence.database")

_MICROS = 1_000_000
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 5.0


class Outage:
    """Who could not reach the database when last they tried. One for a worker; a part is a loop's name or a session."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        self._began = 0
        self._said: set[str] = set()

    def failed(self, part: str, error: StoreError, now: int) -> float:
        """Say it, once for each kind of error of an outage. Returns after how many seconds to try again."""
        if not self._parts:
            self._began, self._said = now, set()
        times = self._parts[part] = self._parts.get(part, 0) + 1
        if error.code in self._said:
            log.debug("the database still does not answer", part=part, error=error.message, times=times)
        else:
            self._said.add(error.code)
            log.warning("the database does not answer; what is known is kept, and tried again", error=error.message)
        return min(RETRY_LAST_S, RETRY_FIRST_S * 2 ** min(times - 1, 10))

    def worked(self, part: str, now: int) -> None:
        """This part reached it, or does not need it any more. Says so when it was the last that waited."""
        if self._parts.pop(part, 0) and not self._parts:
            log.warning("the database answers again", away_s=round(max(0, now - self._began) / _MICROS, 1))
