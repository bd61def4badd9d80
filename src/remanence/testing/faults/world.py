"""The outside world of a fault run: a ledger of every effect that arrived, in its own SQLite file.

It is as honest as a payment provider: it knows which keys arrived and how often, and it applies a keyed effect once. It
survives the death of a worker, because it is not the worker's.

Of each arrival it also keeps who sent it, when that worker had last looked at its clock, and when the effect had
landed: what lies between the two is the time in which nobody could have stopped the effect any more.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from remanence.runtime.clock import SystemClock

__all__ = ["Arrival", "Watch", "World"]


class Arrival(NamedTuple):
    """One effect that landed. Moments are microseconds; `landed_at` is 0 when its worker died in the middle."""

    tool: str
    effect_key: str
    worker: int
    looked_at: int
    landed_at: int


class Watch(SystemClock):
    """The machine's clock, which remembers when it was last looked at."""

    def __init__(self) -> None:
        self.looked_at = 0

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        self.looked_at = super().now()
        return self.looked_at


def _nobody_looked() -> int:
    return 0


class World:
    """Arrivals by tool and effect key. `path` is a file shared by processes, or `:memory:` within one.

    `looked` says when the worker that sends effects last looked at its clock.
    """

    def __init__(self, path: Path | str = ":memory:", looked: Callable[[], int] = _nobody_looked) -> None:
        self._looked = looked
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing; a power cut is not tested
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS arrivals (id INTEGER PRIMARY KEY, tool TEXT, effect_key TEXT, arguments TEXT, "
            "worker INTEGER, looked_at INTEGER, landed_at INTEGER)"
        )

    def arrive(self, tool: str, effect_key: str, arguments: str) -> None:
        """An effect happens, now."""
        row = self._connection.execute(
            "INSERT INTO arrivals VALUES (NULL, ?, ?, ?, ?, ?, 0)",
            (tool, effect_key, arguments, os.getpid(), self._looked()),
        )
        landed = (SystemClock().now(), row.lastrowid)
        self._connection.execute("UPDATE arrivals SET landed_at = ? WHERE id = ?", landed)

    def arrivals(self) -> list[Arrival]:
        """Everything that arrived, in order."""
        rows = self._connection.execute(
            "SELECT tool, effect_key, worker, looked_at, landed_at FROM arrivals ORDER BY id"
        )
        return [Arrival(*row) for row in rows]

    def happened(self, effect_key: str) -> bool:
        """Whether an effect of this key ever arrived."""
        row = self._connection.execute("SELECT 1 FROM arrivals WHERE effect_key = ?", (effect_key,)).fetchone()
        return row is not None

    def counts(self, tool: str) -> Counter[str]:
        """How often each effect key of a tool arrived."""
        rows = self._connection.execute("SELECT effect_key FROM arrivals WHERE tool = ?", (tool,))
        return Counter(key for (key,) in rows)

    def conflicting(self) -> list[str]:
        """Effect keys that arrived with different arguments: a key must name one exact effect."""
        rows = self._connection.execute(
            "SELECT effect_key FROM arrivals GROUP BY effect_key HAVING count(DISTINCT arguments) > 1"
        )
        return [key for (key,) in rows]

    def close(self) -> None:
        self._connection.close()
