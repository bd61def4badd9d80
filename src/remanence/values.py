"""What passes through the doors of `ports`: values of the store, of models and of tools. Frozen, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from remanence.content import Message, Part, Usage
from remanence.events import Event, Recorded, Renames
from remanence.spec import AgentSpec, MemoryUse, ModelSettings, ToolSpec

__all__ = [
    "Appended",
    "Budget",
    "Charge",
    "Cursor",
    "Delta",
    "DeltaKind",
    "Entry",
    "EntryQuery",
    "Fork",
    "Hold",
    "Lease",
    "Loaded",
    "ModelReply",
    "ModelRequest",
    "OnDelta",
    "RawRecord",
    "Release",
    "SessionQuery",
    "SessionRow",
    "Summary",
    "ToolCallContext",
    "ToolOutcome",
    "UsageQuery",
    "UsageRow",
    "Version",
    "Write",
]


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
    """One transaction on one session. See the head of `ports/store.py` for what each field promises."""

    session: str
    events: tuple[Event, ...]
    at: int
    actor: str
    expect: int | None = None
    follows: bytes | None = None
    lease: Lease | None = None
    effects: bool = False
    unless_frozen: bool = False
    wake: bool = False
    """Make the session due now (an input, an approval, a cancel)."""
    wake_unless: str = ""
    """Do not `wake` while this worker holds the lease: it is in this process and will be told."""
    charges: tuple[Charge, ...] = ()
    limits: tuple[Budget, ...] = ()
    """Budgets that the session gets with this write, where it has none in their unit."""
    summary: Summary | None = None
    snapshot: bytes | None = None
    """State at the last of `events`: positions and counters, never content. It is kept beside the earlier ones; empty
    bytes forget every snapshot of the session. What is redacted takes along those that may repeat it."""
    release: Release | None = None
    fork: Fork | None = None
    """Only with the first write of a forked session."""
    seen: int | None = None
    """With `fork`: the source's head when it was read for this. What was redacted there since refuses the fork."""
    key: str | None = None
    key_digest: str = ""
    entries: tuple[Entry, ...] = ()
    """Entries of the registry that belong to what is journaled: made or replaced with it, whatever their revision."""
    renames: Renames = Renames()
    """Pseudonyms for names in content and header of what this write redacts, also of what was redacted before."""


class Appended(msgspec.Struct, frozen=True):
    """What a write became: its records in order. `replayed` when an idempotency key answered for it."""

    records: tuple[Recorded, ...]
    replayed: bool = False

    @property
    def head(self) -> int:
        return self.records[-1].position


class Loaded(msgspec.Struct, frozen=True):
    """A session to fold: a snapshot (a cache, never truth), its position, the row, the records after it."""

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


class Version(msgspec.Struct, frozen=True):
    """One version of an agent: numbered per project and name from 1, named by the digest of its spec."""

    project: str
    agent: str
    number: int
    version: str
    at: int
    spec: AgentSpec


class Budget(msgspec.Struct, frozen=True):
    """A limit of one scope (`session:ID`, `agent:NAME`, `user:NAME`, `project:NAME`) in one unit, and its use."""

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    spent: int = 0
    reserved: int = 0


class Hold(msgspec.Struct, frozen=True):
    """A standing freeze over a scope: `all`, `project:NAME` or an agent of a project, as `core.freezes` spells it."""

    scope: str
    at: int
    by: str
    reason: str = ""
    last_effect: tuple[str, int] | None = None
    """Session and position of the last effect intent that was journaled before the freeze took hold: the proof."""


class SessionRow(msgspec.Struct, frozen=True):
    """One session in a list. When that was asked for, `begins` is what was first said to one without a title, and
    `noted` says that somebody could not read its journal."""

    session: str
    head: int
    epoch: int
    opened_at: int
    updated_at: int
    lease_until: int | None
    wake_at: int | None
    summary: Summary
    fork: Fork | None = None
    begins: str = ""
    noted: bool = False


class SessionQuery(msgspec.Struct, frozen=True):
    """Filters of a session list; newest change first. `before` is the cursor: the last `(updated_at, session)`.

    With `opened` it is in the order of opening instead, and `after` is the cursor: the last session of the page before.
    With `sort` the dearest, or those with the most turns, come first, and `before` is the last `(value, session)`.

    `since` and `until` bound the last change (microseconds; from, and before), `usd_micros_min` and `usd_micros_max`
    the cost, both included. `tag` is a key and a value of the metadata. `doubt` wants sessions with an effect in doubt.
    `version` is a digest, `version_number` that of a version of the session's agent in its project. With `begins` those
    without a title come with the first words that were said to them, and all with `noted`.
    """

    project: str | None = None
    agent: str | None = None
    user: str | None = None
    status: str | None = None
    waiting_on: str | None = None
    parent: str | None = None
    before: tuple[int, str] | None = None
    limit: int = 50
    opened: Literal["newest_first", "oldest_first"] | None = None
    after: str | None = None
    without_status: str | None = None
    version: str | None = None
    since: int | None = None
    until: int | None = None
    usd_micros_min: int | None = None
    usd_micros_max: int | None = None
    tag: tuple[str, str] | None = None
    doubt: bool = False
    sort: Literal["changed", "cost", "turns"] = "changed"
    version_number: int | None = None
    begins: bool = False


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


class Entry(msgspec.Struct, frozen=True):
    """One declared thing that is no session and no agent's version: an API key, an agent as a wire format names it.

    `body` is its JSON. `at` is when it was made, `revision` counts its changes from 1.
    """

    kind: str
    project: str
    id: str
    at: int
    updated_at: int
    body: bytes
    revision: int = 1


HOLDING_MAX = 100


class EntryQuery(msgspec.Struct, frozen=True):
    """Which entries to list, in the order they were made. `after` is the last id of the page before.

    `holding`: only those whose body holds any of these bytes (at most `HOLDING_MAX`); the database looks for them.
    """

    kind: str
    project: str | None = None
    after: str | None = None
    newest_first: bool = False
    limit: int = 50
    holding: tuple[bytes, ...] = ()


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
    """What came back. `parts` holds text, thinking, tool calls (with the provider's ids) and opaque items.

    `service_tier` is the one the provider says it used; empty when it does not say.
    """

    parts: tuple[Part, ...]
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    stop: str = "stop"
    model: str = ""
    provider_id: str = ""
    service_tier: str = ""


class Delta(msgspec.Struct, frozen=True):
    """A piece of a running model call or tool call: live, never journaled. `index` counts the reply's parts.

    `kind` is `text`, `thinking`, `tool_name`, `tool_arguments` or `progress`. `attempt` is that of the model call.
    """

    call: str
    index: int
    kind: Literal["text", "thinking", "tool_name", "tool_arguments", "progress"]
    text: str
    attempt: int = 1


DeltaKind = Literal["text", "thinking", "tool_name", "tool_arguments"]
OnDelta = Callable[[int, DeltaKind, str], None]
"""Called by a model for each piece: (index of the part, kind, text)."""


class ToolCallContext(msgspec.Struct, frozen=True):
    """What a tool may know about the call it serves."""

    session: str
    project: str
    agent: str
    user: str
    turn: int
    effect_key: str
    attempt: int
    memory: MemoryUse | None = None
    """What the agent's version says about its memory."""
    turn_position: int = 0
    window_from: int = 0
    untrusted: bool = False
    """The session has read what strangers may have written."""
    on_progress: Callable[[str], None] | None = None
    may_start: Callable[[], bool] | None = None
    """Whether the worker still holds the session: a tool that waits before its effect (for a thread, for a connection)
    asks right before it, and answers `NOT_STARTED` when it does not."""


class ToolOutcome(msgspec.Struct, frozen=True):
    """What a tool call came to. `error` is for the model to read; `untrusted`: strangers may have written it.

    `facts` are journaled in the same write as the outcome. Only the runtime's own tools have any. `started` is False
    for a call that was refused before anything happened, and `parts` say why; with no parts, see `NOT_STARTED`.
    """

    parts: tuple[Part, ...]
    error: bool = False
    untrusted: bool = False
    facts: tuple[Event, ...] = ()
    started: bool = True


NOT_STARTED = ToolOutcome((), started=False)
"""What a tool answers that did not begin, because its worker may no longer act: nothing happened, nothing is journaled.
"""
