"""The outside world of a fault run: a ledger of every effect that arrived, in its own SQLite file.

It is as honest as a payment provider: it knows which keys arrived and how often, and it applies a keyed effect once. It
survives the death of a worker, because it is not the worker's.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

__all__ = ["World"]


class World:
    """Arrivals by tool and effect key. `path` is a file shared by processes, or `:memory:` within one."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing; a power cut is not tested
        self._connection.execute("CREATE TABLE IF NOT EXISTS arrivals (tool TEXT, effect_key TEXT, arguments TEXT)")

    def arrive(self, tool: str, effect_key: str, arguments: str) -> None:
        """An effect happens, now."""
        self._connection.execute("INSERT INTO arrivals VALUES (?, ?, ?)", (tool, effect_key, arguments))

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
