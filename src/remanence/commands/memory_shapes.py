"""What `-o json` prints and `/admin/v1` answers about long-term memory. Fields are only ever added.

`*_at`, `valid_from` and `valid_to` are integers, microseconds since 1970-01-01 UTC, or null: no bound, or not yet.
"""

from __future__ import annotations

import msgspec

from remanence.commands.memory_attachments import Attachment
from remanence.commands.memory_stores import MemoryStore
from remanence.core.memory.grants import Grant
from remanence.recollections import Memory, MemoryHit
from remanence.tools.memory_words import reasons

__all__ = [
    "AttachedShape",
    "AttachmentShape",
    "BegunShape",
    "GrantShape",
    "HitShape",
    "MemoryShape",
    "RebuiltShape",
    "SourceShape",
    "StoreShape",
]


class MemoryShape(msgspec.Struct, frozen=True):
    """One version of one memory. It stands in the record at `position` of `session`; `closed_at`: believed until then.

    `kind` is episode, note or block; `label` trusted or untrusted; `scope` project, agent:NAME, user:ID or session:ID.
    """

    memory: str
    version: int
    kind: str
    store: str
    scope: str
    text: str
    label: str
    author: str
    speaker: str
    subjects: list[str]
    session: str
    position: int
    recorded_at: int
    closed_at: int | None
    valid_from: int | None
    valid_to: int | None
    expires_at: int | None

    @classmethod
    def of(cls, memory: Memory) -> MemoryShape:
        return cls(
            memory=memory.id,
            version=memory.version,
            kind=memory.kind,
            store=memory.place.store,
            scope=memory.place.scope,
            text=memory.text,
            label=memory.label,
            author=memory.author,
            speaker=memory.speaker,
            subjects=list(memory.subjects),
            session=memory.session,
            position=memory.position,
            recorded_at=memory.recorded_at,
            closed_at=memory.closed_at,
            valid_from=memory.valid_from,
            valid_to=memory.valid_to,
            expires_at=memory.expires_at,
        )


class HitShape(msgspec.Struct, frozen=True):
    """A memory that was found. `score` compares hits of one search only; `why` says in words what made it fit."""

    memory: MemoryShape
    score: float
    why: list[str]

    @classmethod
    def of(cls, hit: MemoryHit) -> HitShape:
        return cls(MemoryShape.of(hit.memory), hit.score, list(reasons(hit.why)))


class StoreShape(msgspec.Struct, frozen=True):
    """A memory store of the project. `declared`: an agent's version named it before anybody made it."""

    store: str
    description: str
    by: str
    declared: bool
    created_at: int

    @classmethod
    def of(cls, store: MemoryStore) -> StoreShape:
        return cls(store.store, store.description, store.by, store.declared, store.created_at)


class GrantShape(msgspec.Struct, frozen=True):
    """What `to` (agent:NAME or session:ID) may do with a store now; no scope at all: the right was taken away.

    `changes` counts how often it was changed; `at` and `by` are those of the last time.
    """

    store: str
    to: str
    reads: list[str]
    writes: list[str]
    at: int
    by: str
    changes: int

    @classmethod
    def of(cls, grant: Grant) -> GrantShape:
        now = grant.changes[-1]
        return cls(grant.store, grant.to, list(now.reads), list(now.writes), now.at, now.by, len(grant.changes))


class AttachmentShape(msgspec.Struct, frozen=True):
    """What `to` (agent:ID or session:ID) may do with a store from its next call on; no scope at all: it was detached.

    `by`: who said so, or `version`, when the agent's newest version does. `at` in microseconds since 1970-01-01 UTC.
    """

    store: str
    to: str
    reads: list[str]
    writes: list[str]
    by: str
    at: int

    @classmethod
    def of(cls, one: Attachment) -> AttachmentShape:
        return cls(one.store, one.to, list(one.reads), list(one.writes), one.by, one.at)


class AttachedShape(msgspec.Struct, frozen=True):
    """What was asked for, and what `to` may do with `store` now. `agent`: its id, null for a session; `store`: null for
    every store it was detached from; `version`: the version of the agent that goes with it."""

    agent: str | None
    to: str
    access: str
    store: str | None
    reads: list[str]
    writes: list[str]
    version: str


class RebuiltShape(msgspec.Struct, frozen=True):
    """The index was thrown away. `sessions`: how many were read again already; null: a worker reads them in idle
    time."""

    sessions: int | None


class BegunShape(msgspec.Struct, frozen=True):
    """A session that takes notes of what was said; somebody with a worker drives it."""

    session: str


class SourceShape(msgspec.Struct, frozen=True):
    """The record that a memory was learned from."""

    session: str
    position: int
