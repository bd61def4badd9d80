"""The doors, all on one page: what the pure core and the runtime need from the outside, and nothing else.

A **store** keeps journals. One row per session (`head`, `epoch`, `lease_until`, `wake_at`) schedules everything: a
session is *due* when `wake_at <= now` and nobody holds its lease. While a lease is held `wake_at` is at latest the end
of the lease, so a worker that dies makes its sessions due by doing nothing.

One `Write` is one transaction. What makes the laws hold is checked inside it:

* `expect`   the head must be this position, else `Conflict` (decisions are conditional);
* `lease`    the row's epoch must be the lease's, else `Fenced` (outcomes are facts, but a zombie's are refused);
* `effects`  the write starts an effect: no freeze may stand over the session, its agent, project or everything,
             else `Frozen`;
* `charges`  budgets are reserved and settled with it; an overshooting reservation raises `BudgetExceeded`;
* `key`      an idempotency key seen before returns the first write's result (`KeyReused` if the body differs);
* `Redacted` among the events: the payload at its position becomes its skeleton, the payload's digest is kept.

Either all of a write is durable when the call returns, or none of it is.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from remanence.content import Message, Part, ToolCall, Usage
from remanence.events import Event, Recorded
from remanence.spec import AgentSpec, ModelSettings, ToolSpec

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
    "Fork",
    "Hold",
    "Lease",
    "Live",
    "Loaded",
    "Model",
    "ModelReply",
    "ModelRequest",
    "OnDelta",
    "RawRecord",
    "Release",
    "SessionQuery",
    "SessionRow",
    "Signal",
    "Specs",
    "Store",
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
    "Write",
]


class Signal(Protocol):
    """What can be waited for: `runtime/bell.py` has one."""

    def is_set(self) -> bool: ...

    def attach(self, waiter: Future[bool]) -> None:
        """Resolve `waiter` with True when the signal is set."""
        ...

    def detach(self, waiter: Future[bool]) -> None: ...


class Clock(Protocol):
    """Time as an argument. Tests hand in one that they move by hand."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        """Wait until the signal is set (True) or the time is over (False)."""
        ...


# --- the store --------------------------------------------------------------------------------------------------------


class Lease(msgspec.Struct, frozen=True):
    """The right to decide for one session, until `until` (microseconds). A higher epoch fences every lower one."""

    session: str
    worker: str
    epoch: int
    until: int


class Summary(msgspec.Struct, frozen=True):
    """What the session's row says for lists, kept in the same transaction as the journal."""

    agent: str
    version: str
    project: str
    user: str = ""
    status: str = "idle"
    waiting_on: str = ""
    title: str = ""
    turns: int = 0
    usd_micros: int = 0
    tokens: int = 0
    needs: str = ""
    """The agent whose Python functions a worker must have to run this session; empty when any worker will do."""


class Charge(msgspec.Struct, frozen=True):
    """One movement on the budgets of `scopes`, under an effect key.

    `reserve` sets amounts aside (refused when a limit would be overshot); `settle` replaces the reservation under `key`
    by what was really spent; `settle` without a reservation only adds. Scopes without a budget are not counted.
    """

    kind: Literal["reserve", "settle"]
    key: str
    scopes: tuple[str, ...]
    usd_micros: int = 0
    tokens: int = 0


class Release(msgspec.Struct, frozen=True):
    """Give the lease back in the same transaction. The session is due again at `wake_at` (None: when spoken to)."""

    wake_at: int | None = None


class Fork(msgspec.Struct, frozen=True):
    """Where a forked session's past lies: in `source`, up to and including `position`."""

    source: str
    position: int


class Write(msgspec.Struct, frozen=True):
    """One transaction on one session. See the head of this file for what each field promises."""

    session: str
    events: tuple[Event, ...]
    at: int
    actor: str
    expect: int | None = None
    lease: Lease | None = None
    effects: bool = False
    wake: bool = False
    """Make the session due now (an input, an approval, a cancel)."""
    wake_unless: str = ""
    """Do not `wake` while this worker holds the lease: it is in this process and will be told."""
    charges: tuple[Charge, ...] = ()
    summary: Summary | None = None
    snapshot: bytes | None = None
    """State at the last of `events`: positions and counters, never content."""
    release: Release | None = None
    fork: Fork | None = None
    """Only with the first write of a forked session."""
    key: str | None = None
    key_digest: str = ""


class Appended(msgspec.Struct, frozen=True):
    """What a write became: its records in order. `replayed` when an idempotency key answered for it."""

    records: tuple[Recorded, ...]
    replayed: bool = False

    @property
    def head(self) -> int:
        return self.records[-1].position


class Loaded(msgspec.Struct, frozen=True):
    """A session to fold: the newest snapshot (a cache, never truth), its position, the row, the records after it."""

    snapshot: bytes | None
    snapshot_position: int
    records: tuple[Recorded, ...]
    summary: Summary
    fork: Fork | None = None


class Cursor(msgspec.Struct, frozen=True):
    """How far one projection has read one session: `position` is done, `head` is there."""

    session: str
    position: int
    head: int


class Store(Protocol):
    """Journals and leases. `testing/conformance.py` is the contract; every backend runs it."""

    async def append(self, write: Write) -> Appended:
        """Journal the events. Raises Conflict, Fenced, Frozen, BudgetExceeded, KeyReused, NotFound, StoreError."""
        ...

    async def load(self, session: str) -> Loaded:
        """The snapshot and every record after it. Raises NotFound."""
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

    async def behind(self, projection: str, *, limit: int) -> Sequence[Cursor]:
        """Sessions whose head is past this projection's cursor."""
        ...

    async def wait(self, *, timeout_s: float) -> None:
        """Return when something may have become due (LISTEN, an in-process signal, a poll), or at the time-out."""
        ...


class Version(msgspec.Struct, frozen=True):
    """One version of an agent: numbered per project and name from 1, named by the digest of its spec."""

    project: str
    agent: str
    number: int
    version: str
    at: int
    spec: AgentSpec


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


class Budget(msgspec.Struct, frozen=True):
    """A limit of one scope (`session:ID`, `agent:NAME`, `user:NAME`, `project:NAME`) in one unit, and its use."""

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    spent: int = 0
    reserved: int = 0


class Hold(msgspec.Struct, frozen=True):
    """A standing freeze over a scope: `all`, `project:NAME` or `agent:NAME`."""

    scope: str
    at: int
    by: str
    reason: str = ""
    last_effect: tuple[str, int] | None = None
    """Session and position of the last effect intent that was journaled before the freeze took hold: the proof."""


class Controls(Protocol):
    """Budgets and freezes: small tables that every effect's transaction looks at."""

    async def set_budget(
        self, scope: str, unit: Literal["usd_micros", "tokens"], limit: int, *, at: int, spent: int | None = None
    ) -> Budget:
        """Set the limit of a scope; its use stays, or becomes `spent` when a budget moves here from elsewhere."""
        ...

    async def budgets(self, scope: str | None = None) -> Sequence[Budget]: ...

    async def freeze(self, scope: str, *, at: int, by: str, reason: str) -> Hold:
        """When this returns, no effect intent under `scope` can be journaled."""
        ...

    async def thaw(self, scope: str, *, at: int) -> None:
        """Lift the freeze and make the sessions it stopped due. Raises NotFound when none stands."""
        ...

    async def holds(self) -> Sequence[Hold]: ...


class SessionRow(msgspec.Struct, frozen=True):
    """One session in a list."""

    session: str
    head: int
    epoch: int
    opened_at: int
    updated_at: int
    lease_until: int | None
    wake_at: int | None
    summary: Summary
    fork: Fork | None = None


class SessionQuery(msgspec.Struct, frozen=True):
    """Filters of a session list; newest change first. `before` is the cursor: the last `(updated_at, session)`."""

    project: str | None = None
    agent: str | None = None
    user: str | None = None
    status: str | None = None
    waiting_on: str | None = None
    parent: str | None = None
    before: tuple[int, str] | None = None
    limit: int = 50


class UsageQuery(msgspec.Struct, frozen=True):
    """Which usage to sum: by any of `agent`, `user`, `model`, `day`, `project`, `session`."""

    by: tuple[str, ...] = ("agent",)
    project: str | None = None
    since: int | None = None


class UsageRow(msgspec.Struct, frozen=True):
    """One sum. `key` has one entry per field asked for; `unpriced_calls` are calls no price is known for."""

    key: tuple[str, ...]
    calls: int
    usage: Usage
    usd_micros: int
    unpriced_calls: int = 0


class Views(Protocol):
    """Read models: what lists and screens ask. Never asked by the loop."""

    async def session(self, session: str) -> SessionRow: ...

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]: ...

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]: ...

    async def record_usage(self, cursor: Cursor, rows: Sequence[tuple[int, Summary, str, Usage, int | None]]) -> None:
        """Add `(at, summary, model, usage, cost)` rows and move the cursor, at once; a stale cursor does nothing."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Counts and sizes for `db stats`: sessions by status, records, blobs, bytes, schema version, durability."""
        ...


class RawRecord(msgspec.Struct, frozen=True):
    """One stored row, undecoded. `payload_digest` is set where the payload was redacted: that of the original."""

    position: int
    at: int
    epoch: int
    actor: str
    kind: str
    payload: bytes
    digest: bytes
    payload_digest: bytes | None = None


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

    async def raw(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        """The session's own stored rows as they are, undecoded, without those a fork inherits. Raises NotFound."""
        ...

    async def restore(self, session: str, rows: Sequence[RawRecord], summary: Summary, fork: Fork | None) -> None:
        """Lay down an exported journal, bytes and digests unchanged, in one transaction. Conflict if it exists."""
        ...

    async def close(self) -> None: ...


# --- models and tools -------------------------------------------------------------------------------------------------


class ModelRequest(msgspec.Struct, frozen=True):
    """One model call, whole. `messages` is the window, oldest first; `output_tokens` bounds the reply."""

    model: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    settings: ModelSettings
    output_tokens: int
    timeout_s: float
    effect_key: str


class ModelReply(msgspec.Struct, frozen=True):
    """What came back. `parts` holds text, thinking, tool calls (with the provider's ids) and opaque items."""

    parts: tuple[Part, ...]
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    stop: str = "stop"
    model: str = ""
    provider_id: str = ""


class Delta(msgspec.Struct, frozen=True):
    """A piece of a running model call or tool call: live, never journaled. `index` counts the reply's parts.

    `kind` is `text`, `thinking`, `tool_name`, `tool_arguments` or `progress`.
    """

    call: str
    index: int
    kind: Literal["text", "thinking", "tool_name", "tool_arguments", "progress"]
    text: str


DeltaKind = Literal["text", "thinking", "tool_name", "tool_arguments"]
OnDelta = Callable[[int, DeltaKind, str], None]
"""Called by a model for each piece: (index of the part, kind, text)."""


class Model(Protocol):
    """One way to reach models. Raises `ModelError`, nothing else; cancelling the task aborts the call."""

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply: ...

    def price(self, model: str, usage: Usage) -> int | None:
        """What this usage costs in micro-USD (rounded up), or None when no price is known."""
        ...


class ToolCallContext(msgspec.Struct, frozen=True):
    """What a tool may know about the call it serves."""

    session: str
    project: str
    agent: str
    user: str
    turn: int
    effect_key: str
    attempt: int
    on_progress: Callable[[str], None] | None = None


class ToolOutcome(msgspec.Struct, frozen=True):
    """What a tool call came to. `error` is for the model to read."""

    parts: tuple[Part, ...]
    error: bool = False


class Tool(Protocol):
    """Something that can run calls of one tool. It never raises for a bad call: that is an outcome with `error`."""

    @property
    def spec(self) -> ToolSpec: ...

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome: ...

    async def reconcile(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        """What became of an effect: its outcome, `not_happened`, or None when the tool cannot tell."""
        ...


class Live(Protocol):
    """What is happening now: records as they commit and deltas as they stream. Nothing here is truth."""

    def publish(self, session: str, item: Recorded | Delta) -> None:
        """Tell everybody who follows this session. Never waits: a slow reader loses deltas, not the writer's time."""
        ...

    def subscribe(self, session: str) -> Subscription: ...

    def driver_of(self, session: str) -> str:
        """The worker of this process that holds the session, so that publishing wakes it; empty when none does."""
        ...


class Subscription(Protocol):
    """One reader of one session's live items."""

    async def take(self, timeout_s: float) -> Sequence[Recorded | Delta]:
        """What was published since the last call; waits up to `timeout_s` for the first item. Empty: nothing came."""
        ...

    def close(self) -> None: ...


class Toolbox(Protocol):
    """Where the runtime finds the code behind a tool."""

    def find(self, agent: str, tool: str) -> Tool | None: ...

    def agents(self) -> Sequence[str]:
        """The agents whose Python functions this process has."""
        ...
