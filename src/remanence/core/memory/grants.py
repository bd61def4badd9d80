"""Who sees which memory: grants, and what they come to for one session at one moment.

A memory store belongs to a project. What a session may do with it is said by the most specific voice that speaks:

    a grant to the session  >  a grant to its agent  >  what the agent's version says (`MemoryUse`)

A grant without any right is a voice, too: that is how a right is taken away. The rights name *kinds* of scopes; which
scopes those are follows from the session: its own, that of its user, that of its agent, that of the project. So no
grant can open another user's scope, or another session's.

Every change of a grant is kept with its moment. What an agent may see is asked at each recall and each call, at the
newest moment; where an episode belongs is asked at the moment it was journaled, so that an index made again from the
journals is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from remanence.recollections import Place
from remanence.spec import MemoryScope, MemoryUse

__all__ = ["NO_ACCESS", "SCOPES", "Access", "Grant", "GrantChange", "Subject", "access_of", "grantee", "scope_of"]

SCOPES: tuple[MemoryScope, ...] = ("session", "user", "agent", "project")


class GrantChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a grant allows from `at` (microseconds) on. Nothing at all: it was taken away."""

    at: int
    by: str
    reads: tuple[MemoryScope, ...] = ()
    writes: tuple[MemoryScope, ...] = ()


class Grant(msgspec.Struct, frozen=True):
    """What `to` (`agent:NAME` or `session:ID`) was allowed to do with a store, oldest change first."""

    store: str
    to: str
    changes: tuple[GrantChange, ...]

    def at(self, moment: int | None = None) -> GrantChange | None:
        """What it allowed at a moment (None: what it allows now); None before it was first made."""
        standing = [change for change in self.changes if moment is None or change.at <= moment]
        return standing[-1] if standing else None


class Subject(msgspec.Struct, frozen=True):
    """Whose rights are asked for."""

    project: str
    agent: str
    session: str
    user: str = ""


class Access(msgspec.Struct, frozen=True):
    """What one session may see and add to. Stores in the order they are preferred in; scopes from near to far."""

    reads: tuple[Place, ...] = ()
    writes: tuple[Place, ...] = ()

    @property
    def home(self) -> Place | None:
        """Where what is said in the session belongs: with its user, else with itself; None: it is not kept."""
        return next((p for p in self.writes if p.scope.startswith(("user:", "session:"))), None)


NO_ACCESS = Access()


def access_of(subject: Subject, use: MemoryUse | None, grants: Iterable[Grant], *, at: int | None = None) -> Access:
    """What a session may do at a moment (None: now). `use` is what its agent's version says; None: no memory."""
    if use is None:
        return NO_ACCESS
    voices = {(grant.store, grant.to): change for grant in grants if (change := grant.at(at)) is not None}
    stores = [use.store, *sorted({store for store, _ in voices} - {use.store})]
    reads: list[Place] = []
    writes: list[Place] = []
    for store in stores:
        said = voices.get((store, f"session:{subject.session}")) or voices.get((store, f"agent:{subject.agent}"))
        if said is None and store != use.store:
            continue
        may_read, may_write = (use.reads, use.writes) if said is None else (said.reads, said.writes)
        reads += _places(store, may_read, subject)
        writes += _places(store, may_write, subject)
    return Access(tuple(reads), tuple(writes))


def scope_of(kind: MemoryScope, subject: Subject) -> str | None:
    """The scope of a kind that a session has; None for that of a user nobody named."""
    match kind:
        case "project":
            return "project"
        case "agent":
            return f"agent:{subject.agent}"
        case "user":
            return f"user:{subject.user}" if subject.user else None
        case "session":
            return f"session:{subject.session}"


def grantee(subject: Subject) -> tuple[str, str]:
    """The names under which grants may speak of a session."""
    return f"agent:{subject.agent}", f"session:{subject.session}"


def _places(store: str, kinds: Sequence[MemoryScope], subject: Subject) -> list[Place]:
    """The places of these kinds, the user's first, because that is where most of what is worth keeping belongs."""
    order: tuple[MemoryScope, ...] = ("user", "session", "agent", "project")
    scopes = [scope_of(kind, subject) for kind in order if kind in kinds]
    return [Place(store, scope) for scope in scopes if scope is not None]
