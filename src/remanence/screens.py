"""What screens ask besides lists: words that were said and done, tags, doubts, turns by the minute. Values only.

All of it is a projection (`SCREENS`) of the journals: a stretch of a journal becomes a `Seen`, which a store adds in
one transaction with the move of the projection's cursor.

A page of the console asks its questions together (`Screens.ask`): they are answered in one read transaction, so that
what a page shows was true at one moment, however many tables it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from remanence.events import Recorded
from remanence.values import Budget, Loaded, SessionQuery, SessionRow, UsageQuery, Version

__all__ = [
    "PIECE_RECORDS",
    "SCREENS",
    "STRETCH_BYTES",
    "TAGGED_MAX",
    "Behind",
    "Budgets",
    "Found",
    "Hit",
    "Minute",
    "Opened",
    "Overview",
    "Place",
    "Question",
    "Search",
    "Seen",
    "Sessions",
    "Shown",
    "Spent",
    "Sums",
    "Tag",
    "Tags",
    "TurnEnd",
    "Uses",
    "VersionUse",
    "Versions",
    "Waiting",
    "bytes_of",
]

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


# --- what a page asks -------------------------------------------------------------------------------------------------


class Sums(msgspec.Struct, frozen=True):
    """An `Overview` of a project, with its minutes from `since` (microseconds) on."""

    project: str
    since: int


class Sessions(msgspec.Struct, frozen=True):
    """A list of `SessionRow`."""

    query: SessionQuery


class Waiting(msgspec.Struct, frozen=True):
    """The sessions of a list, each as a pair of its `SessionRow` and its `Loaded`."""

    query: SessionQuery


class Found(msgspec.Struct, frozen=True):
    """What a search finds, as pairs of a `Hit` and the record that fits."""

    search: Search


class Versions(msgspec.Struct, frozen=True):
    """Each `Version` of a project, or of one agent of it, oldest first."""

    project: str
    agent: str | None = None


class Uses(msgspec.Struct, frozen=True):
    """The `VersionUse` of every version of a project, or of one agent of it, that a session pins."""

    project: str
    agent: str | None = None


class Tags(msgspec.Struct, frozen=True):
    """The `Tag`s that most sessions carry."""

    project: str
    limit: int


class Budgets(msgspec.Struct, frozen=True):
    """Each `Budget` of one scope, under the name it is kept under; of none: all but those of single sessions."""

    scope: str | None = None


class Spent(msgspec.Struct, frozen=True):
    """Each `UsageRow` of a sum."""

    query: UsageQuery


class Behind(msgspec.Struct, frozen=True):
    """Whether one of these projections may have something to read."""

    projections: tuple[str, ...]


Place = Literal["newest", "around", "before", "after"]
PIECE_RECORDS = 50
STRETCH_BYTES = 8_000_000
"""A stretch is read in pieces until it holds about so much: records may be of megabytes each."""


class Opened(msgspec.Struct, frozen=True):
    """One session as `Shown`, with about `size` records: the newest, or those around, before or after a position.

    Fewer when these are large: of those after a position the first, otherwise the last. Around one there are all.
    """

    session: str
    place: Place = "newest"
    position: int = 0
    size: int = 0

    def bounds(self, head: int) -> tuple[int, int]:
        """Of a session that ends at `head`: the position after which the records begin, and the last of them."""
        match self.place:
            case "after":
                first = min(self.position, head)
            case "before":
                last = max(0, min(self.position - 1, head))
                return max(0, last - self.size), last
            case _:
                middle = head if self.place == "newest" else max(self.position, 1)
                first = max(0, min(head, middle + self.size // 2) - self.size)
        return first, min(head, first + self.size)

    def pieces(self, first: int, last: int) -> list[tuple[int, int]]:
        """The stretch in the order in which it is read."""
        size = PIECE_RECORDS if self.place != "around" else max(1, self.size)
        if self.place == "after":
            return [(low, min(low + size, last)) for low in range(first, last, size)]
        return [(max(first, high - size), high) for high in range(last, first, -size)]


def bytes_of(records: Sequence[Recorded]) -> int:
    """About how much these records hold."""
    return sum(len(msgspec.json.encode(record.event)) for record in records)


class Shown(msgspec.Struct, frozen=True):
    """A session: what its state is folded from, records of a stretch, the version it pins, and its own budgets."""

    loaded: Loaded
    records: tuple[Recorded, ...]
    version: Version | None
    budgets: tuple[Budget, ...]


Question = Sums | Sessions | Waiting | Found | Versions | Uses | Tags | Budgets | Spent | Behind | Opened
"""What can be asked. An answer is as the question says."""
