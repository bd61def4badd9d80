"""What `-o json` prints and `/admin/v1` answers: one type for each kind of answer. Fields are only ever added.

Everywhere: `*_at` and `at` are integers, microseconds since 1970-01-01 UTC, or null; money is `usd_micros`, millionths
of a US dollar; digests are 64 hexadecimal digits. A list prints a JSON array, with `-o jsonl` one entry a line.
"""

from __future__ import annotations

from typing import Any

import msgspec

from remanence.commands.approvals import Waiting
from remanence.commands.versions import Diff, name_of
from remanence.core.state import Doubt, Session, status_of, waiting_on
from remanence.events import Recorded, encode_event, kind_of
from remanence.ports import Budget, Hold, SessionRow, UsageRow, Version

__all__ = [
    "AgentShape",
    "ApprovalShape",
    "BudgetShape",
    "CallShape",
    "CheckedShape",
    "CostShape",
    "DiffShape",
    "StandingShape",
    "ServerShape",
    "RegisteredShape",
    "DoubtShape",
    "FreezeShape",
    "HealthShape",
    "OutcomeShape",
    "PieceShape",
    "RecordShape",
    "SentShape",
    "SessionRowShape",
    "SessionShape",
    "SettledShape",
    "VersionShape",
]


class PieceShape(msgspec.Struct, frozen=True):
    """A piece of an excerpt; `fits` when it is what was searched for."""

    text: str
    fits: bool


class SessionRowShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session in a list. `status`: idle, queued, in_progress, waiting, frozen, budget_reached, failed, deleted.

    One without a title has in `begins` what was first said to it, as it stands in its journal now. Of a search,
    `found_at` is the newest record that fits and `excerpt` what it says there. `unreadable` says why the journal of one
    cannot be read, whose row is as it was before.
    """

    session: str
    agent: str
    version: str
    user: str
    title: str
    status: str
    waiting_on: str
    turns: int
    head: int
    usd_micros: int
    tokens: int
    opened_at: int
    updated_at: int
    fork_of: str | None
    fork_position: int | None
    found_at: int | None = None
    excerpt: list[PieceShape] | None = None
    begins: str = ""
    unreadable: str = ""

    @classmethod
    def of(cls, row: SessionRow) -> SessionRowShape:
        s, fork = row.summary, row.fork
        return cls(
            session=row.session,
            agent=s.agent,
            version=s.version,
            user=s.user,
            title=s.title,
            status=s.status,
            waiting_on=s.waiting_on,
            turns=s.turns,
            head=row.head,
            usd_micros=s.usd_micros,
            tokens=s.tokens,
            opened_at=row.opened_at,
            updated_at=row.updated_at,
            fork_of=fork.source if fork else None,
            fork_position=fork.position if fork else None,
            begins=row.begins,
        )


class CallShape(msgspec.Struct, frozen=True):
    """A tool call of the open turn; `state` as drawn in `remanence.core.state`."""

    call: str
    tool: str
    arguments: str
    arguments_digest: str
    state: str
    reason: str
    attempt: int


class DoubtShape(msgspec.Struct, frozen=True):
    """An effect nobody can vouch for. `asked`: so often the tool's `reconcile` failed, the last time for `failure`; it
    is asked again at `retry_at` (null: it is not)."""

    session: str
    call: str
    tool: str
    effect_key: str
    turn: int
    at: int
    reason: str
    asked: int
    retry_at: int | None
    failure: str

    @classmethod
    def of(cls, session: str, doubt: Doubt) -> DoubtShape:
        d = doubt
        asked = (d.asked, d.retry_at, d.failure)
        return cls(session, d.call, d.tool, d.effect_key, d.turn, d.at, d.reason, *asked)


class SessionShape(msgspec.Struct, frozen=True):
    """A session as it stands. `turn` is the number of the open turn, or null; `queued` counts inputs no turn has taken;
    the window is where the model's view begins; `commands` answer what the session waits for. `last_turn` is how the
    last turn ended, empty before one has; `turn_started_at` is when the open one began."""

    session: str
    agent: str
    version: str
    project: str
    user: str
    title: str
    metadata: dict[str, str]
    status: str
    waiting_on: str
    head: int
    at: int
    turns: int
    turn: int | None
    queued: int
    calls: list[CallShape]
    doubts: list[DoubtShape]
    commands: list[str]
    frozen: str | None
    last_effect: int
    window_turn: int
    window_position: int
    model_calls: int
    tool_calls: int
    unpriced_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    usd_micros: int
    last_turn: str
    turn_started_at: int | None

    @classmethod
    def of(cls, s: Session, commands: list[str]) -> SessionShape:
        calls = s.turn.calls if s.turn else ()
        ledger = s.ledger
        return cls(
            session=s.id,
            agent=s.agent,
            version=s.version,
            project=s.project,
            user=s.user,
            title=s.title,
            metadata=s.metadata,
            status=status_of(s),
            waiting_on=waiting_on(s),
            head=s.head,
            at=s.at,
            turns=s.turns,
            turn=s.turn.number if s.turn else None,
            queued=len(s.queue),
            calls=[CallShape(c.call, c.name, c.arguments, c.digest, c.state, c.reason, c.attempt) for c in calls],
            doubts=[DoubtShape.of(s.id, doubt) for doubt in s.doubts],
            commands=commands,
            frozen=s.frozen,
            last_effect=s.last_effect,
            window_turn=s.window.first_turn,
            window_position=s.window.from_position,
            model_calls=ledger.model_calls,
            tool_calls=ledger.tool_calls,
            unpriced_calls=ledger.unpriced_calls,
            input_tokens=ledger.usage.input_tokens,
            output_tokens=ledger.usage.output_tokens,
            cached_tokens=ledger.usage.cached_tokens,
            usd_micros=ledger.usd_micros,
            last_turn=s.last_turn,
            turn_started_at=s.turn.started_at if s.turn else None,
        )


class RecordShape(msgspec.Struct, frozen=True):
    """A journal record. `event` is as it is stored, with its kind under `type`; see the reference of events."""

    session: str
    position: int
    at: int
    epoch: int
    actor: str
    kind: str
    event: dict[str, Any]
    digest: str
    redacted: bool

    @classmethod
    def of(cls, record: Recorded) -> RecordShape:
        event = msgspec.json.decode(encode_event(record.event), type=dict[str, Any])
        return cls(
            record.session,
            record.position,
            record.at,
            record.epoch,
            record.actor,
            kind_of(record.event),
            event,
            record.digest.hex(),
            record.redacted,
        )


class SentShape(msgspec.Struct, frozen=True):
    """An input that was accepted: it lies in the journal at `position`. `replayed`: the key had been used for it."""

    session: str
    position: int
    replayed: bool


class OutcomeShape(msgspec.Struct, frozen=True):
    """What became of an input. `status` is completed, failed, cancelled, waiting (then `waiting_on` and `commands` say
    for what), or accepted when nobody waited for it. The amounts are those of the whole session."""

    session: str
    position: int
    turn: int | None
    status: str
    text: str
    reason: str
    waiting_on: str
    commands: list[str]
    usd_micros: int
    tokens: int


class ApprovalShape(msgspec.Struct, frozen=True):
    """A call that waits for a person: `kind` is approval (yes or no) or answer (the agent asked a question).

    `arguments_digest` is what an approval is bound to; `approvers` may answer (empty: anyone).
    """

    session: str
    call: str
    agent: str
    user: str
    kind: str
    tool: str
    arguments: str
    arguments_digest: str
    rule: str
    approvers: list[str]
    needed: int
    approved_by: list[str]
    expires_at: int | None
    turn: int

    @classmethod
    def of(cls, w: Waiting) -> ApprovalShape:
        return cls(
            session=w.session,
            call=w.call,
            agent=w.agent,
            user=w.user,
            kind=w.kind,
            tool=w.tool,
            arguments=w.arguments,
            arguments_digest=w.digest,
            rule=w.rule,
            approvers=list(w.approvers),
            needed=w.needed,
            approved_by=list(w.approved_by),
            expires_at=w.expires_at,
            turn=w.turn,
        )


class SettledShape(msgspec.Struct, frozen=True):
    """An answer that was journaled at `position`: `decision` is approve, deny, happened, run_again or give_up."""

    session: str
    call: str
    decision: str
    by: str
    position: int


class FreezeShape(msgspec.Struct, frozen=True):
    """A freeze that stands, or (`frozen` false) was lifted. The last effect is the proof: nothing started after it."""

    scope: str
    frozen: bool
    by: str
    reason: str
    last_effect_session: str | None
    last_effect_position: int | None

    @classmethod
    def of(cls, hold: Hold) -> FreezeShape:
        session, position = hold.last_effect or (None, None)
        return cls(hold.scope, True, hold.by, hold.reason, session, position)


class AgentShape(msgspec.Struct, frozen=True):
    """An agent. `number` and `version` are the newest registered ones (0 and empty: none). `code` is how the agent that
    the setting `agents` declares compares: current, changed, not pushed, or absent."""

    agent: str
    number: int
    version: str
    model: str
    tools: list[str]
    at: int | None
    code: str


class VersionShape(msgspec.Struct, frozen=True):
    """A registered version. `created`: this command made it; false when it was there already. `tools` by name."""

    agent: str
    number: int
    version: str
    model: str
    at: int
    created: bool
    tools: list[str]

    @classmethod
    def of(cls, v: Version, *, created: bool = False) -> VersionShape:
        return cls(v.agent, v.number, v.version, v.spec.model, v.at, created, [tool.name for tool in v.spec.tools])


class CheckedShape(msgspec.Struct, frozen=True):
    """A declaration that is valid, and the version it would be."""

    agent: str
    version: str
    model: str
    tools: list[str]


class DiffShape(msgspec.Struct, frozen=True):
    """What changed from `a` to `b`: lines of a unified diff over the canonical JSON of both."""

    a: str
    b: str
    same: bool
    diff: list[str]

    @classmethod
    def of(cls, d: Diff) -> DiffShape:
        return cls(name_of(d.a), name_of(d.b), not d.lines, list(d.lines))


class CostShape(msgspec.Struct, frozen=True):
    """What was spent under one `key` (by the fields asked for). `unpriced_calls` have no known price: the money they
    cost is not in `usd_micros`."""

    key: dict[str, str]
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    usd_micros: int
    unpriced_calls: int

    @classmethod
    def of(cls, by: tuple[str, ...], row: UsageRow) -> CostShape:
        u = row.usage
        return cls(
            dict(zip(by, row.key, strict=True)),
            row.calls,
            u.input_tokens,
            u.output_tokens,
            u.cached_tokens,
            row.usd_micros,
            row.unpriced_calls,
        )


class BudgetShape(msgspec.Struct, frozen=True):
    """A limit: amounts in `unit`, which is usd_micros or tokens. `reserved` is set aside for calls that run now."""

    scope: str
    unit: str
    limit: int
    spent: int
    reserved: int

    @classmethod
    def of(cls, b: Budget) -> BudgetShape:
        return cls(b.scope, b.unit, b.limit, b.spent, b.reserved)


class RegisteredShape(msgspec.Struct, frozen=True):
    """A registered version with what it says: `spec` is the agent as it was declared."""

    project: str
    agent: str
    number: int
    version: str
    at: int
    spec: dict[str, Any]

    @classmethod
    def of(cls, v: Version) -> RegisteredShape:
        spec = msgspec.json.decode(msgspec.json.encode(v.spec), type=dict[str, Any])
        return cls(v.project, v.agent, v.number, v.version, v.at, spec)


class ServerShape(msgspec.Struct, frozen=True):
    """A server: its release, whether it runs sessions, the agents it has the functions of (name to version), and the
    project of the key that asked."""

    version: str
    worker: bool
    agents: dict[str, str]
    project: str


class HealthShape(msgspec.Struct, frozen=True):
    """How a server does: each check is `ok`, or says in words what is wrong. `database` has counts and sizes."""

    ready: bool
    checks: dict[str, str]
    database: dict[str, Any]


class StandingShape(msgspec.Struct, frozen=True):
    """A session's state as the runtime folds it, and until when a worker has it."""

    state: dict[str, Any]
    lease_until: int | None
