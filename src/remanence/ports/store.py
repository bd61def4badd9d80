"""The journal and its small tables: what a turn reads and writes.

A **store** keeps journals. One row per session (`head`, `epoch`, `lease_until`, `wake_at`) schedules everything: a
session is *due* when `wake_at <= now` and nobody holds its lease. While a lease is held `wake_at` is at latest the end
of the lease, so a worker that dies makes its sessions due by doing nothing.

One `Write` is one transaction. What makes the laws hold is checked inside it:

* `expect`   the head must be this position, else `Conflict` (decisions are conditional);
* `follows`  the record at the head must have this digest, else `Conflict`: not only how much is there, but what;
* `lease`    the row's epoch must be the lease's, else `Fenced` (outcomes are facts, but a zombie's are refused);
* `effects`  the write starts an effect: no freeze may stand over the session, its agent, project or everything,
             else `Frozen`; `unless_frozen` asks the same of a write that starts none, but for its own session;
* `charges`  budgets are reserved and settled with it; an overshooting reservation raises `BudgetExceeded`;
* `seen`     of a fork's source: nothing may be redacted in it since, else `Conflict`: the fork's row and snapshot would
             say what was erased;
* `limits`   budgets of the session are there with it, where it had none: it is never seen without them;
* `key`      an idempotency key seen before returns the first write's result (`KeyReused` if the body differs);
* `entries`  of the registry are made or replaced with it; an answer under an idempotency key leaves them as they are;
* `Redacted` among the events: the payload at its position becomes its skeleton, the payload's digest is kept, and
             `renames` puts pseudonyms in the place of names that are left.

Either all of a write is durable when the call returns, or none of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from remanence.events import Recorded
from remanence.spec import AgentSpec
from remanence.values import Appended, Budget, Cursor, Entry, Hold, Lease, Loaded, Version, Write

__all__ = ["Blobs", "Controls", "Reading", "Specs", "Store"]


class Store(Protocol):
    """Journals and leases. `testing/conformance/` is the contract; every backend runs it."""

    async def append(self, write: Write) -> Appended:
        """Journal the events. Raises Conflict, Fenced, Frozen, BudgetExceeded, KeyReused, NotFound, StoreError."""
        ...

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        """The newest snapshot at or before a position (None: the head), and every record after it, up to there.

        A snapshot may be that of a session this one was forked from. Raises NotFound.
        """
        ...

    async def read(self, session: str, *, after: int = 0, limit: int | None = None) -> Sequence[Recorded]:
        """Records with a position over `after`, in order, through the forks they were inherited from."""
        ...

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        """Lease up to `limit` due sessions, oldest first; epoch + 1 each. `agents`: only those this worker can run.

        A session this worker already holds and that was woken is returned too, with the epoch it has.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        """Extend leases; those that are no longer ours are missing from the answer."""
        ...

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        """Give a lease back. Conflict if the head is past `seen`: no wake-up is lost. Fenced if it is not ours."""
        ...

    async def behind(self, projection: str, *, limit: int, after: str = "") -> Sequence[Cursor]:
        """Sessions whose head is past this projection's cursor, in the order they were opened; those opened `after`
        one, so that whoever goes round comes to all of them."""
        ...

    async def wait(self, *, timeout_s: float) -> None:
        """Return when something may have become due (LISTEN, an in-process signal, a poll), or at the time-out."""
        ...


class Reading(Protocol):
    """A way to read a journal: `Store.read`, or one that remembers for a moment what it has read."""

    async def __call__(self, session: str, *, after: int = 0, limit: int = ...) -> Sequence[Recorded]: ...


class Specs(Protocol):
    """Agents and their versions. A version is never changed or reused."""

    async def put(self, spec: AgentSpec, *, project: str, at: int) -> Version:
        """Register a version; the same spec again is the same version."""
        ...

    async def get(self, version: str) -> AgentSpec:
        """The spec of one digest. Raises NotFound."""
        ...

    async def versions(self, project: str | None, agent: str | None = None) -> Sequence[Version]:
        """All versions of a project (None: of every project), oldest first."""
        ...


class Blobs(Protocol):
    """Large content by its SHA-256 (64 hexadecimal digits), beside the journal."""

    async def put(self, content: bytes) -> str: ...

    async def get(self, digest: str) -> bytes: ...


class Controls(Protocol):
    """Budgets and freezes: small tables that every effect's transaction looks at."""

    async def set_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        limit: int,
        *,
        at: int,
        spent: int | None = None,
        mark: Entry | None = None,
    ) -> Budget:
        """Set the limit of a scope; its use stays, or becomes `spent` when a budget moves here from elsewhere.

        `mark` is a new entry of the registry, kept in the same transaction. Raises Conflict when its id is taken: then
        nothing was set.
        """
        ...

    async def raise_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        *,
        by: int = 0,
        to: int = 0,
        at: int,
        mark: Entry | None = None,
    ) -> Budget:
        """Raise a limit by an amount, or to one if it is lower; two who raise at once both do. `mark` as above.

        Raises NotFound, Conflict.
        """
        ...

    async def budgets(self, scope: str | None = None) -> Sequence[Budget]: ...

    async def freeze(self, scope: str, *, at: int, by: str, reason: str, mark: Entry | None = None) -> Hold:
        """When this returns, no effect intent under `scope` (as `core.freezes` spells it) can be journaled.

        `mark` as for a budget.
        """
        ...

    async def thaw(self, scope: str, *, at: int) -> None:
        """Lift the freeze and make the sessions it stopped due. Raises NotFound when none stands."""
        ...

    async def holds(self) -> Sequence[Hold]: ...
