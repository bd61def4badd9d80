"""What screens ask besides lists: words that were said and done, tags, doubts, turns by the minute. Values only.

All of it is a projection (`SCREENS`) of the journals: a stretch of a journal becomes a `Seen`, which a store adds in
one transaction with the move of the projection's cursor.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from remanence.values import SessionQuery, SessionRow

__all__ = ["SCREENS", "TAGGED_MAX", "Hit", "Minute", "Overview", "Search", "Seen", "Tag", "TurnEnd", "VersionUse"]

SCREENS = "screens"
"""The name of the projection, under which its cursors are kept."""

TAGGED_MAX = 2_000
"""Of so many sessions, those that changed last, the tags are counted."""

TurnEnd = Literal["completed", "failed", "cancelled"]


class Seen(msgspec.Struct, frozen=True):
    """What one stretch of a journal adds to what screens ask."""

    words: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """For each record that says something: its position, and its words (see `core/words.py`), each once."""
    tags: dict[str, str] | None = None
    """The session's metadata from now on; None when nothing changed it."""
    tagged_at: int = 0
    """The record that says so."""
    lost: tuple[str, ...] = ()
    """Calls whose outcome became unknown in this stretch and was not settled in it."""
    settled: tuple[str, ...] = ()
    turns: tuple[tuple[int, TurnEnd], ...] = ()
    """Turns that ended: when (microseconds), and how."""
    deleted: bool = False
    """The session was removed: none of its words may be found any more."""


class Search(msgspec.Struct, frozen=True):
    """Sessions with a record that holds all of `words`, and a word that begins with `prefix` unless that is empty.

    `sessions` filters as in lists; its order is that of opening, the newest first, whatever it says, and its cursor is
    `after`.
    """

    words: tuple[str, ...]
    prefix: str = ""
    sessions: SessionQuery = SessionQuery()


class Hit(msgspec.Struct, frozen=True):
    """A session that was found, and the newest record in it that fits."""

    row: SessionRow
    position: int


class Tag(msgspec.Struct, frozen=True):
    """One piece of metadata and how many sessions carry it."""

    key: str
    value: str
    sessions: int


class Minute(msgspec.Struct, frozen=True):
    """Turns that ended within the minute that begins at `at` (microseconds)."""

    at: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class Overview(msgspec.Struct, frozen=True):
    """The sums of a project. `counts`: sessions by (status, what they wait for), without those at rest.

    `in_doubt` counts sessions that hold an effect nobody can vouch for; `minutes` are those in which a turn ended.
    """

    counts: dict[tuple[str, str], int]
    in_doubt: int
    minutes: tuple[Minute, ...]


class VersionUse(msgspec.Struct, frozen=True):
    """How much one version of an agent is used: sessions that pin it now, their turns and cost, the last change."""

    version: str
    sessions: int
    turns: int
    usd_micros: int
    updated_at: int
