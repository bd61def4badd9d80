"""What an agent keeps beyond its session, and what is withdrawn."""

from __future__ import annotations

from typing import Literal

from remanence.events.fact import Fact

__all__ = ["MemoryForgotten", "MemoryKept"]


class MemoryKept(Fact, frozen=True):
    """A long-lived fact was written to a memory store: a version of a note, or of a block.

    `scope` is `project`, `agent:NAME`, `user:ID` or `session:ID`. It was learned from record `source` of
    `source_session` (empty: of this session). `supersedes` names the memory it takes the place of; `follows` the one
    that was true until this one was. Validity in microseconds since 1970: `valid_from` to `valid_to` in the world,
    until `expires_at` in the memory. `untrusted` when its writer had read what strangers may have written. `name` is
    that of a block, `by` who wrote it.
    """

    store: str
    memory: str
    text: str
    source: int | None = None
    subjects: tuple[str, ...] = ()
    supersedes: str | None = None
    follows: str | None = None
    scope: str = "project"
    kind: Literal["note", "block"] = "note"
    version: int = 1
    name: str = ""
    valid_from: int | None = None
    valid_to: int | None = None
    expires_at: int | None = None
    untrusted: bool = False
    source_session: str = ""
    by: str = ""


class MemoryForgotten(Fact, frozen=True):
    """A memory was withdrawn: it is recalled no more. Its versions stay in the history until they are erased."""

    store: str
    memory: str
    by: str
    reason: str = ""
