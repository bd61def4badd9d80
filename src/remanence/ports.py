"""The doors, all on one page: what the pure core and the runtime need from the outside, and nothing else.

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
* `key`      an idempotency key seen before returns the first write's result (`KeyReused` if the body differs);
* `entries`  of the registry are made or replaced with it; an answer under an idempotency key leaves them as they are;
* `Redacted` among the events: the payload at its position becomes its skeleton, the payload's digest is kept, and
             `renames` puts pseudonyms in the place of names that are left.

Either all of a write is durable when the call returns, or none of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from remanence.content import ToolCall, Usage
from remanence.events import Recorded
from remanence.ports_memory import Embedder, Memories, MemoryVectors
from remanence.screens import Hit, Overview, Question, Search, Seen, Tag, VersionUse
from remanence.spec import AgentSpec, ToolSpec
from remanence.values import (
    Appended,
    Budget,
    Charge,
    Cursor,
    Delta,
    DeltaKind,
    Entry,
    EntryQuery,
    Fork,
    Hold,
    Lease,
    Loaded,
    ModelReply,
    ModelRequest,
    OnDelta,
    RawRecord,
    Release,
    SessionQuery,
    SessionRow,
    Summary,
    ToolCallContext,
    ToolOutcome,
    UsageQuery,
    UsageRow,
    Version,
    Write,
)

__all__ = [
    "Appended",
    "Blobs",
    "Budget",
    "Charge",
    "Clock",
    "Controls",
    "Cursor",
    "Database",
    "Delta",
    "DeltaKind",
    "Embedder",
    "Entry",
    "EntryQuery",
    "Fork",
    "Hold",
    "Lease",
    "Live",
    "Loaded",
    "Memories",
    "MemoryVectors",
    "Model",
    "ModelReply",
    "ModelRequest",
    "OnDelta",
    "RawRecord",
    "Reading",
    "Registry",
    "Release",
    "Screens",
    "SessionQuery",
    "SessionRow",
    "Signal",
    "Specs",
    "Store",
    "Streaming",
    "Subscription",
    "Summary",
    "Tool",
    "ToolCallContext",
    "ToolOutcome",
    "Toolbox",
    "UsageQuery",
    "UsageRow",
    "Version",
    "Views",
    "Waiter",
    "Want",
    "Write",
]


class Waiter(Protocol):
    """Somebody who waits: a future of the event loop."""

    def done(self) -> bool: ...

    def set_result(self, result: bool, /) -> None: ...


class Signal(Protocol):
    """What can be waited for: `runtime/bell.py` has one."""

    def is_set(self) -> bool: ...

    def attach(self, waiter: Waiter) -> None:
        """Resolve `waiter` with True when the signal is set."""
        ...

    def detach(self, waiter: Waiter) -> None: ...


class Clock(Protocol):
    """Time as an argument. Tests hand in one that they move by hand."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        """Wait until the signal is set (True) or the time is over (False)."""
        ...


class Store(Protocol):
    """Journals and leases. `testing/conformance.py` is the contract; every backend runs it."""

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
        self, scope: str, unit: Literal["usd_micros", "tokens"], limit: int, *, at: int, spent: int | None = None
    ) -> Budget:
        """Set the limit of a scope; its use stays, or becomes `spent` when a budget moves here from elsewhere."""
        ...

    async def budgets(self, scope: str | None = None) -> Sequence[Budget]: ...

    async def freeze(self, scope: str, *, at: int, by: str, reason: str) -> Hold:
        """When this returns, no effect intent under `scope` (as `core.freezes` spells it) can be journaled."""
        ...

    async def thaw(self, scope: str, *, at: int) -> None:
        """Lift the freeze and make the sessions it stopped due. Raises NotFound when none stands."""
        ...

    async def holds(self) -> Sequence[Hold]: ...


class Registry(Protocol):
    """Declared things by kind and id: see `values.Entry`. Ids are unique within a kind, across projects."""

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        """Make or change an entry. Conflict unless its revision is `expect` (0: it is not there; None: whatever).

        Returns it as it stands: with the revision it got, and the moment it was first made.
        """
        ...

    async def get(self, kind: str, name: str) -> Entry:
        """Raises NotFound."""
        ...

    async def list(self, query: EntryQuery) -> Sequence[Entry]: ...

    async def kinds(self) -> Sequence[str]:
        """Every kind of which there is an entry."""
        ...

    async def remove(self, kind: str, name: str) -> None:
        """Raises NotFound."""
        ...


class Views(Protocol):
    """Read models: what lists and screens ask. Never asked by the loop."""

    async def session(self, session: str) -> SessionRow: ...

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]: ...

    async def heads(self, sessions: Sequence[str]) -> dict[str, int]:
        """The newest position of each of these sessions that exists: one look for many followers."""
        ...

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]: ...

    async def record_usage(self, cursor: Cursor, rows: Sequence[tuple[int, Summary, str, Usage, int | None]]) -> None:
        """Add `(at, summary, model, usage, cost)` rows and move the cursor, at once; a stale cursor does nothing."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Counts and sizes for `db stats`: sessions by status, records, blobs, bytes, schema version, durability."""
        ...


class Screens(Protocol):
    """What screens ask besides lists: a projection of the journals, which can be thrown away and made again."""

    async def record(self, cursor: Cursor, seen: Seen) -> None:
        """Add what was seen and move the cursor of `screens.SCREENS`, at once; a stale cursor does nothing.

        What was redacted meanwhile is left out. Redacting a record takes its words out in the same transaction.
        """
        ...

    async def ask(self, *questions: Question) -> list[Any]:
        """The answers to what a page asks, in one read transaction: all of it was true at one moment.

        Raises NotFound for a session that is not there, InvalidInput as each question alone would.
        """
        ...

    async def search(self, search: Search) -> Sequence[Hit]:
        """Sessions in which the words were said, the last opened first; none when no word is asked for."""
        ...

    async def tags(self, project: str, *, limit: int) -> Sequence[Tag]:
        """The metadata that most of the sessions carry that changed last (`screens.TAGGED_MAX`)."""
        ...

    async def overview(self, project: str, *, since: int) -> Overview:
        """The sums of a project now, and its minutes from `since` (microseconds) on."""
        ...

    async def versions(self, project: str, agent: str) -> Sequence[VersionUse]:
        """How much each version of an agent is used, by what the sessions' rows say now; removed ones left out."""
        ...

    async def clear(self) -> None:
        """Forget all of it and its cursors: the next look at `behind` starts from the first record."""
        ...


class Database(Protocol):
    """One backend, opened: the journal and the small tables beside it."""

    @property
    def url(self) -> str: ...
    @property
    def store(self) -> Store: ...
    @property
    def specs(self) -> Specs: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def controls(self) -> Controls: ...
    @property
    def views(self) -> Views: ...
    @property
    def screens(self) -> Screens: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def memories(self) -> Memories: ...
    @property
    def memory_vectors(self) -> MemoryVectors: ...

    async def raw(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        """The session's own stored rows as they are, undecoded, without those a fork inherits. Raises NotFound."""
        ...

    async def snapshots(self, session: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, bytes]]:
        """What `load` may begin with: the snapshots a session itself took, by position. Raises NotFound."""
        ...

    async def drop_snapshots(self, session: str, positions: Sequence[int]) -> None: ...

    async def restore(self, session: str, rows: Sequence[RawRecord], summary: Summary, fork: Fork | None) -> None:
        """Lay down an exported journal, bytes and digests unchanged, in one transaction. Conflict if it exists."""
        ...

    async def prune_keys(self, *, before: int) -> int:
        """Forget idempotency keys used before a moment (microseconds). Returns how many."""
        ...

    async def naming(self, names: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Session and position of each record with any of some names, in header or content. Reads every journal."""
        ...

    async def rename_user(self, project: str, old: str, new: str) -> dict[str, int]:
        """Put a pseudonym in the place of a user's name beside the journals. Returns rows changed, by table."""
        ...

    async def scrub(self) -> None:
        """Overwrite in the files what deleted and replaced rows left there. May take as long as copying them."""
        ...

    async def files(self) -> Sequence[Path]:
        """The files that hold the data, as far as this process can read them; none when they are elsewhere."""
        ...

    async def close(self) -> None: ...


class Model(Protocol):
    """One way to reach models. Raises `ModelError`, nothing else; cancelling the task aborts the call."""

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply: ...

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        """What this usage costs in micro-USD (rounded up), or None when no price is known. `tier`: the service tier."""
        ...


class Tool(Protocol):
    """Something that can run calls of one tool. It never raises for a bad call: that is an outcome with `error`."""

    @property
    def spec(self) -> ToolSpec: ...

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome: ...

    async def reconcile(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        """What became of an effect: its outcome, `not_happened`, or None when the tool cannot tell. When it raises, or
        gives no answer in time, it is asked again later."""
        ...


Want = Literal["all", "records", "turns", "latest"]
"""What a reader wants to be woken for."""


class Live(Protocol):
    """What is happening now: records as they commit and deltas as they stream. Nothing here is truth."""

    def publish(self, session: str, *items: Recorded | Delta) -> None:
        """Tell everybody who follows this session. Never waits: a slow reader loses deltas, not the writer's time."""

    def subscribe(self, session: str, *, want: Want = "all") -> Subscription:
        """A new reader; it sees what is published from now on, and must be closed.

        `records` leaves out deltas; `turns` does too, and its `take` ends when a turn does (or nobody drives it here);
        `latest` keeps the last of deltas in a row, for whoever looks at `running` for what they say.
        """
        ...

    def driver_of(self, session: str) -> str:
        """The worker of this process that holds the session, so that publishing wakes it; empty when none does."""
        ...

    def foresee(self, write: Write) -> None:
        """A write is about to be queued: a worker of this process that holds its session may plan on it already."""
        ...

    def running(self, session: str) -> Streaming | None:
        """The model call of this session that runs in this process, if one does."""
        ...

    def stir(self, session: str) -> None:
        """Let everybody who follows this session look at the journal."""
        ...


class Streaming(Protocol):
    """A model call that streams: what it has said so far, and whether that is all (`answered`)."""

    @property
    def call(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def answered(self) -> bool: ...
    @property
    def parts(self) -> Sequence[tuple[DeltaKind, str]]:
        """The texts and thoughts so far, in the order of the reply."""
        ...

    @property
    def calls(self) -> Sequence[tuple[int, str, str]]:
        """The calls so far: how many of `parts` stand before it, its tool, its arguments."""
        ...


class Subscription(Protocol):
    """One reader of one session's live items."""

    async def take(self, timeout_s: float | None) -> Sequence[Recorded | Delta]:
        """What was published since the last call; waits up to `timeout_s` (None: as long as it is driven here).

        Empty: nothing came, or whoever drove the session in this process has left it; the journal knows.
        """
        ...

    @property
    def waits(self) -> bool:
        """Whether something was published that was not taken yet."""
        ...

    def close(self) -> None: ...


class Toolbox(Protocol):
    """Where the runtime finds the code behind a tool."""

    def find(self, agent: str, tool: str) -> Tool | None: ...

    def remote(self, spec: ToolSpec) -> Tool | None:
        """A tool that its spec alone says how to reach: on an MCP server that this process may connect to."""
        ...

    def agents(self) -> Sequence[str]:
        """The agents whose Python functions this process has."""
        ...
