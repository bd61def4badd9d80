"""What passes through the door `ports.Memories`: values of long-term memory. Frozen, no behaviour.

A **memory** is a fact outside one session, and every memory points at the record it came from. Three kinds: an
*episode* is what somebody said or a tool returned, kept as it was; a *note* is a fact that an agent or a person wrote;
a *block* is a short text that is always in view.

Two clocks, kept apart. *When it was believed*: a version is believed from `recorded_at` until `closed_at`, when a newer
version or a `memory_forget` closed it. *When it is true*: from `valid_from` until `valid_to`, as its author says.

A **place** is where a memory lies: a store and a scope within it. Nothing is found outside the places a query names.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Close",
    "Keep",
    "Memory",
    "MemoryChange",
    "MemoryHit",
    "MemoryKind",
    "MemoryLabel",
    "MemoryListing",
    "MemoryQuery",
    "MemoryRemoval",
    "MemorySelector",
    "MemoryStats",
    "MemoryVector",
    "Place",
    "Removed",
    "Share",
    "ShareBy",
]

MemoryKind = Literal["episode", "note", "block"]
MemoryLabel = Literal["trusted", "untrusted"]
"""Where the text came from; `untrusted` is shown to a model as quoted data, never as an instruction."""


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a memory lies: `scope` is `project`, `agent:NAME`, `user:ID` or `session:ID` within a store."""

    store: str
    scope: str = "project"


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one memory. Times are microseconds since 1970-01-01 UTC; None: no bound.

    `id` is unique within a project and the same for all versions; `version` counts from 1. `(session, position)` is the
    record it came from. `author` is who wrote it (`user:ID`, `agent:NAME`, `tool:NAME`), `speaker` the name it is
    spoken under in the conversation, if it has one.
    """

    id: str
    version: int = 1
    kind: MemoryKind
    project: str
    place: Place
    text: str
    session: str
    position: int
    author: str = ""
    speaker: str = ""
    subjects: tuple[str, ...] = ()
    label: MemoryLabel = "trusted"
    recorded_at: int
    closed_at: int | None = None
    valid_from: int | None = None
    valid_to: int | None = None
    expires_at: int | None = None


# --- changes ----------------------------------------------------------------------------------------------------------


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """A version is there from now on. Its predecessor, if one is open, closes at its `recorded_at`.

    The same `(id, version)` again changes nothing.
    """

    memory: Memory


class Close(msgspec.Struct, frozen=True, tag="close"):
    """The open version is believed no longer (forgotten, or superseded by another memory); it stays in the history.

    `valid_to` also says until when it was true.
    """

    project: str
    id: str
    at: int
    valid_to: int | None = None


MemoryChange = Keep | Close


class MemorySelector(msgspec.Struct, frozen=True, kw_only=True):
    """Which memories to remove for good, all their versions. The fields given must all hold; at least one is.

    `session` is the one they came from (with `positions`: only from these records), `subject` one of their subjects.
    """

    project: str
    ids: tuple[str, ...] = ()
    session: str | None = None
    positions: tuple[int, ...] = ()
    subject: str | None = None
    store: str | None = None
    scope: str | None = None


class Removed(msgspec.Struct, frozen=True):
    """One version that was removed, and where it had come from."""

    id: str
    version: int
    kind: MemoryKind
    place: Place
    session: str
    position: int


class MemoryRemoval(msgspec.Struct, frozen=True):
    """What a removal took away: the versions, and how many rows of which table."""

    memories: tuple[Removed, ...] = ()
    rows: dict[str, int] = {}


# --- questions --------------------------------------------------------------------------------------------------------


class MemoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the memory. Only what lies in `readable` is looked at.

    `now` is the moment it is asked, to which "yesterday" refers. `believed_at` asks what was believed then (None: now),
    `valid_at` leaves out what was not true then. `window` is a session and a position: what that session journaled
    after this position is before the model's eyes and is left out. `vector` is the question's embedding by
    `vector_model`.
    """

    project: str
    readable: tuple[Place, ...]
    text: str
    now: int
    believed_at: int | None = None
    valid_at: int | None = None
    kinds: tuple[MemoryKind, ...] = ("episode", "note")
    limit: int = 10
    window: tuple[str, int] | None = None
    vector: tuple[float, ...] | None = None
    vector_model: str = ""


ShareBy = Literal["words", "neighbour", "session", "speaker", "date", "vector"]


class Share(msgspec.Struct, frozen=True):
    """One reason for a hit: `by` what, how much of the score it gave, and the words (or the name) that did it."""

    by: ShareBy
    share: float
    words: tuple[str, ...] = ()


class MemoryHit(msgspec.Struct, frozen=True):
    """A memory that was found. `score` compares hits of one query only; the shares of `why` add up to it."""

    memory: Memory
    score: float
    why: tuple[Share, ...] = ()


class MemoryListing(msgspec.Struct, frozen=True, kw_only=True):
    """Which memories to list, newest first. `after` is the last id of the page before.

    Without `believed_at` every memory is listed by its newest version, closed ones only with `closed`. With
    `every_version` all versions of the memories that fit are listed instead, the closed ones, too: by id, oldest first.
    `limit` then counts memories, and a page costs the same wherever it begins.
    """

    project: str
    places: tuple[Place, ...] | None = None
    kinds: tuple[MemoryKind, ...] = ()
    session: str | None = None
    subject: str | None = None
    believed_at: int | None = None
    valid_at: int | None = None
    closed: bool = False
    every_version: bool = False
    after: str | None = None
    limit: int = 50


class MemoryStats(msgspec.Struct, frozen=True):
    """Counts: memories by kind, versions, places, rows of the index, and vectors by the model that made them."""

    memories: dict[str, int] = {}
    versions: int = 0
    places: int = 0
    words: int = 0
    vectors: dict[str, int] = {}


class MemoryVector(msgspec.Struct, frozen=True):
    """The embedding of one version of a memory, of any length other than zero."""

    project: str
    id: str
    version: int
    vector: tuple[float, ...]
