"""Sessions: open, send, cancel, fork, freeze, thaw, upgrade.

`send` is one blind append: what a new input does while a turn runs is decided by the loop, from the journal, so two
messages at once are two records in an order and never a race. Only `reject` has to look first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from remanence.commands.caller import (
    Bound,
    Caller,
    body_digest,
    check_new_session,
    check_within,
    commit,
    kept_under,
    state_in,
    state_of,
)
from remanence.content import Part, Text
from remanence.core.context import shown_bytes
from remanence.core.session import evolve
from remanence.core.state import Session
from remanence.core.summary import summary_of
from remanence.errors import Busy, Conflict, InvalidInput, KeyReused
from remanence.events import (
    CancelAsked,
    Event,
    InputReceived,
    Recorded,
    SessionAnnotated,
    SessionDeleted,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
)
from remanence.ports import Appended, Budget, Write
from remanence.spec import AgentSpec, IfBusy, policy_digest
from remanence.stores.rows import payload_of

__all__ = [
    "Once",
    "Opening",
    "annotate",
    "cancel",
    "cancelled",
    "check_idle",
    "check_input",
    "check_said",
    "delete",
    "freeze",
    "open_session",
    "said",
    "send",
    "thaw",
    "upgrade",
]

_TRIES = 4
LONG_INPUT_CHARS = 4_096
"""Shorter inputs are always shown whole: no limit of a result is smaller in earnest."""


class Opening(msgspec.Struct, frozen=True):
    """What a new session is opened with. `session` may be chosen by the caller; else it is made. `limit` is what the
    session may spend in micro-USD, whatever its agent's limits say."""

    user: str = ""
    title: str = ""
    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}
    session: str | None = None
    key: str | None = None
    limit: int | None = None


async def open_session(caller: Caller, spec: AgentSpec, opening: Opening | None = None) -> str:
    """Open a session that pins this version and policy; returns its id. Conflict when the id is taken.

    With an idempotency key, the same opening again returns the same session.
    """
    opening = opening or Opening()
    session = opening.session or caller.make_id("sess")
    check_opening(session, opening)
    now = caller.clock.now()
    version = await caller.database.specs.put(spec, project=caller.project, at=now)
    opened = SessionOpened(
        agent=spec.name,
        version=version.version,
        policy=policy_digest(spec),
        project=caller.project,
        user=opening.user,
        title=opening.title,
        metadata=opening.metadata,
        face=opening.face,
    )
    record = Recorded(session, 1, now, 0, caller.actor, opened)
    appended = await commit(
        caller,
        Write(
            session=session,
            events=(opened,),
            at=now,
            actor=caller.actor,
            expect=0,
            limits=limits_of(spec, session, opening.limit),
            summary=summary_of(evolve(Session(session), record), spec),
            key=f"open:{caller.project}:{opening.key}" if opening.key else None,
            key_digest=body_digest((opened, opening.session, *(() if opening.limit is None else (opening.limit,)))),
        ),
    )
    return appended.records[0].session


def check_opening(session: str, opening: Opening) -> None:
    """Refuse what not every database could hold: a session may be moved from one to another."""
    check_new_session(session)
    for name, text in (("user", opening.user), ("title", opening.title)):
        if "\x00" in str(text):  # what is no text is refused by the write, in its own words
            raise InvalidInput(f"The {name} holds a NUL character. Nothing was written; leave it out.", param=name)


def limits_of(spec: AgentSpec, session: str, own: int | None = None) -> tuple[Budget, ...]:
    """The budgets that the agent's limits give each of its sessions. `own`: the session's own limit of money."""
    scope, limits = f"session:{session}", list[Budget]()
    usd_micros = spec.limits.session_usd_micros if own is None else own
    if usd_micros is not None:
        limits.append(Budget(scope, "usd_micros", usd_micros))
    if spec.limits.session_tokens is not None:
        limits.append(Budget(scope, "tokens", spec.limits.session_tokens))
    return tuple(limits)


async def send(
    caller: Caller,
    session: str | Session,
    parts: tuple[Part, ...] | str,
    *,
    if_busy: IfBusy = "queue",
    key: str | Bound | None = None,
    messages: tuple[int, ...] = (),
) -> Appended:
    """Accept an input. When this returns it is durable, and it will be answered; nothing more is promised.

    `session` is its id, or its state as it was seen: then Conflict is raised when it is not like that any more.
    `messages`: how many of the parts each message has, when these are several.

    Raises NotFound, TooLarge, InvalidInput, and Busy when `if_busy` is `reject` and the session is in a turn.
    """
    if key == "":
        raise InvalidInput("The idempotency key is empty. Nothing was written; leave it out, or give one.", param="key")
    if isinstance(parts, str):
        parts = (Text(parts),)
    check_input(caller, parts)
    seen, session = (session, session.id) if isinstance(session, Session) else (None, session)
    said = (parts, if_busy, *((messages,) if messages else ()))
    bound = Bound(f"send:{session}:{key}", body_digest(said)) if isinstance(key, str) else key
    expect = seen.head if seen is not None else None
    if if_busy == "reject":
        s = seen or await state_of(caller, session)
        if not _idle(s) and (before := await told_before(caller, session, bound)) is not None:
            return before  # what keeps the session busy is this very input
        check_idle(s)
        expect = s.head
    shown = await _shown(caller, seen or session, parts)
    event = InputReceived(
        caller.make_id("in"), parts, user=caller.actor, if_busy=if_busy, shown=shown, messages=messages
    )
    return await commit(
        caller,
        Write(
            session=session,
            events=(event,),
            at=caller.clock.now(),
            actor=caller.actor,
            expect=expect,
            wake=True,
            wake_unless=caller.live.driver_of(session),
            key=bound.name if bound else None,
            key_digest=bound.digest if bound else "",
        ),
    )


def said(caller: Caller, spec: AgentSpec, given: InputReceived) -> InputReceived:
    """An input, as a session of this version takes it; whether the session is busy is `check_idle`'s to say."""
    check_input(caller, given.parts)
    return msgspec.structs.replace(given, shown=shown_bytes(spec, given.parts))


def check_input(caller: Caller, parts: tuple[Part, ...]) -> None:
    """Refuse an input that says nothing, or is over the limit."""
    check_said(parts, caller.input_bytes_max)


def check_said(parts: tuple[Part, ...], bytes_max: int) -> None:
    """The same before anything is opened: what is refused then leaves no empty session behind."""
    if not parts or all(isinstance(part, Text) and not part.text.strip() for part in parts):
        raise InvalidInput("The input is empty. Nothing was written; say something.", param="input").because(
            "input_empty"
        )
    try:
        size = len(msgspec.json.encode(parts))
    except UnicodeEncodeError:
        raise InvalidInput(
            "The input is not text: it holds half a character (a surrogate), which no UTF-8 can say. Nothing was "
            "written; leave it out.",
            param="input",
        ) from None
    check_within(size, bytes_max)


async def _shown(caller: Caller, session: str | Session, parts: tuple[Part, ...]) -> int:
    """How much of an input the model is shown: see `shown_bytes`. Only for a long one is the agent looked up."""
    if sum(len(part.text) for part in parts if isinstance(part, Text)) <= LONG_INPUT_CHARS:
        return 0
    s = session if isinstance(session, Session) else await state_of(caller, session)
    return shown_bytes(await caller.database.specs.get(s.version), parts)


def check_idle(s: Session) -> None:
    """What `if_busy=reject` asks of a session. Raises Busy when a turn of it runs or waits to begin."""
    if not _idle(s):
        doing = "has inputs that wait for a turn" if s.turn is None else f"is in turn {s.turns}"
        raise Busy(
            f"Session {s.id} {doing} and the input said if_busy=reject. Nothing was written. "
            "Send it again later, or with if_busy queue, steer or interrupt."
        ).because("busy", session=s.id)


class Once(msgspec.Struct, frozen=True):
    """An idempotency key and the request it is bound to."""

    key: str
    body: object


async def tell(
    caller: Caller,
    session: str,
    *events: Event,
    expect: int | None = None,
    seen: Session | None = None,
    once: Once | Bound | None = None,
) -> Appended:
    """Append facts that a person asked for, and make the session due, unless it is seen to be at rest before and after,
    with nothing that a worker could do. Under a key that was used before: what it was.

    `seen`: the session as it must still be. Then its row goes along: a worker that finds nothing to do writes none.
    """
    now, summary, wake = caller.clock.now(), None, not all(isinstance(event, SessionAnnotated) for event in events)
    if seen is not None:
        after, expect = seen, seen.head
        for event in events:
            payload_of(session, event)  # what is no event of ours cannot be folded either
            after = evolve(after, Recorded(session, after.head + 1, now, 0, caller.actor, event))
        summary = summary_of(after, await caller.database.specs.get(after.version))
        wake = not (_idle(seen) and _idle(after))
    upgraded = [event.version for event in events if isinstance(event, SessionUpgraded)]
    bound = _bound(session, once)
    write = Write(
        session,
        events,
        now,
        caller.actor,
        expect=expect,
        wake=wake,
        limits=limits_of(await caller.database.specs.get(upgraded[-1]), session) if upgraded else (),
        summary=summary,
        key=bound.name if bound else None,
        key_digest=bound.digest if bound else "",
    )
    return await commit(caller, write)


async def tell_surely(
    caller: Caller, session: str, event: Event, check: Callable[[Session], None], once: Once | None = None
) -> Appended:
    """Append a fact about the session as a whole, with its row. `check` is asked at each try, and raises where the fact
    means nothing. A session that is written to all the time gets the fact alone: a freeze waits for no quiet moment.
    Whether it meant nothing by then is asked of the session as it was just before. Under a key that was used before:
    what it was."""
    if (before := await told_before(caller, session, once)) is not None:
        return before
    for _ in range(_TRIES):
        s = await state_of(caller, session)
        check(s)
        try:
            return await tell(caller, session, event, seen=s, once=once)
        except KeyReused:
            raise
        except Conflict:
            continue
    told = await tell(caller, session, event, once=once)
    check(await state_in(caller.database.store, session, upto=told.records[0].position - 1))
    return told


def _idle(s: Session) -> bool:
    return s.turn is None and not s.queue


async def told_before(caller: Caller, session: str, once: Once | Bound | None) -> Appended | None:
    """What the same request under the same key became, if it was made. Raises KeyReused for another request."""
    bound = _bound(session, once)
    return await kept_under(caller, session, key=bound.name, digest=bound.digest) if bound is not None else None


def _bound(session: str, once: Once | Bound | None) -> Bound | None:
    return Bound(f"tell:{session}:{once.key}", body_digest(once.body)) if isinstance(once, Once) else once


async def cancel(caller: Caller, session: str, *, reason: str = "", once: Once | None = None) -> Appended:
    """Ask the running turn to stop, or the next one when its input is still queued. What already happened is reported
    in its `TurnEnded`. Conflict when there is none. Under a key once: it stops no later turn."""
    if (before := await told_before(caller, session, once)) is not None:
        return before
    return await tell(caller, session, cancelled(caller, await state_of(caller, session), reason), once=once)


def cancelled(caller: Caller, s: Session, reason: str = "") -> CancelAsked:
    """The fact that a cancel is in a session as it stands. Raises as `cancel`."""
    if s.turn is None and not s.queue:
        raise Conflict(f"Session {s.id} is not in a turn; there is nothing to cancel.").because("no_turn", session=s.id)
    return CancelAsked(caller.actor, reason, s.turn.number if s.turn else s.turns + 1)


async def freeze(caller: Caller, session: str, *, reason: str = "", once: Once | None = None) -> Session:
    """Freeze one session: after this returns, no effect can start in it. `last_effect` of the state is the proof.
    Under a key once: the session as it is now is the answer, whatever was done to it since."""

    def check(s: Session) -> None:
        if s.frozen is not None:
            words = f"Session {session} is frozen already ({s.frozen}), and stays so until it is thawed."
            raise Conflict(words).because("frozen_already", session=session)

    await tell_surely(caller, session, SessionFrozen(caller.actor, reason), check, once)
    return await state_of(caller, session)


async def thaw(caller: Caller, session: str, *, reason: str = "", once: Once | None = None) -> Session:
    """Lift the freeze of one session; it goes on where it was. Once under a key, as `freeze`."""

    def check(s: Session) -> None:
        if s.frozen is None:
            raise Conflict(f"Session {session} is not frozen.").because("not_frozen", session=session)

    await tell_surely(caller, session, SessionThawed(caller.actor, reason), check, once)
    return await state_of(caller, session)


async def upgrade(caller: Caller, session: str, spec: AgentSpec) -> Appended:
    """Let the session go on with another version of its agent, from its next decision on."""

    def check(s: Session) -> None:
        if spec.name != s.agent:
            raise InvalidInput(f"Session {session} belongs to agent {s.agent}; it cannot go on as {spec.name}.")

    s = await state_of(caller, session)
    check(s)
    version = await caller.database.specs.put(spec, project=s.project, at=caller.clock.now())
    upgraded = SessionUpgraded(version.version, policy_digest(spec), caller.actor)
    return await tell_surely(caller, session, upgraded, check)


async def annotate(
    caller: Caller, session: str, metadata: dict[str, str], face: dict[str, Any], *, seen: int | None = None
) -> Appended:
    """Replace what the session carries along. Conflict when somebody wrote after the position `seen`."""
    return await tell(caller, session, SessionAnnotated(metadata, face, caller.actor), expect=seen)


async def delete(caller: Caller, session: str, *, reason: str = "") -> Appended:
    """Remove a session: its turn is cancelled, nothing starts in it any more, no face shows it.

    Its journal stays, because a fork may read it. Conflict when it was deleted before.
    """

    def check(s: Session) -> None:
        if s.deleted:
            raise Conflict(f"Session {session} was deleted before. It stays so.")

    return await tell_surely(caller, session, SessionDeleted(caller.actor, reason), check)
