"""What a client brings along and what it says next, as one append: the verb behind Responses and Conversations.

A client may send a past: what people said, what a model replied, what its calls came to. It is journaled like what
happened here, so that windows, forks and exports need to know nothing of it: the replies are `ModelReplied` of the
model `given`, without an intent before them, and cost nothing.

What is to be answered stays open at the end: an input that waits for its turn, or a turn whose calls are all closed,
for which the loop calls the model next. Everything is one transaction on the head that was looked at, so a session that
moved meanwhile refuses it (`Conflict`), and whoever asked looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import msgspec

from remanence.commands.caller import Bound, Caller, check_size, commit, kept_under
from remanence.commands.past import GIVEN, Past, calls_with_client, no_call, no_output, rests
from remanence.content import Message, Text, ToolResult
from remanence.core.context import shown_bytes
from remanence.core.session import fold
from remanence.core.snapshots import SNAPSHOT_EVERY_RECORDS, encode_snapshot
from remanence.core.state import Session
from remanence.core.summary import summary_of
from remanence.errors import InvalidInput, StoreFull
from remanence.events import (
    Event,
    InputReceived,
    Recorded,
    Redacted,
    SessionUpgraded,
    ToolReturned,
)
from remanence.ports import Appended, Entry, Write
from remanence.spec import AgentSpec, policy_digest

__all__ = [
    "GIVEN",
    "Beside",
    "Key",
    "bound",
    "calls_with_client",
    "check",
    "check_kept",
    "erase",
    "keep",
    "naming",
    "rests",
    "said_under",
    "say",
    "withdraw",
]


class Key(msgspec.Struct, frozen=True):
    """An idempotency key and the digest of the request it came with."""

    name: str
    digest: str


Beside = Callable[[Sequence[Recorded]], tuple[Entry, ...]]
"""Entries that belong to records: these stand where they will be journaled, without their digests."""


def check(caller: Caller, messages: Sequence[Message]) -> tuple[Event, ...]:
    """What these messages would be journaled as in a new session. Raises InvalidInput when they cannot be answered."""
    return Past(caller, Session(""), 0, None).answered(messages)


def check_kept(caller: Caller, messages: Sequence[Message]) -> None:
    """Raise what `keep` would of these messages in a new session: InvalidInput, TooLarge."""
    check_size(caller, len(msgspec.json.encode(Past(caller, Session(""), 0, None).closed(messages))))


async def say(
    caller: Caller,
    s: Session,
    messages: Sequence[Message],
    *,
    spec: AgentSpec,
    key: Key | None = None,
    beside: Beside | None = None,
) -> Appended:
    """Journal `messages` after `s` and have them answered, by `spec` from now on. The same `key` again: once.

    `beside` tells the entries of the registry that are kept in the same commit. Under a freeze of the agent, of the
    project or of everything, which would leave it unanswered, nothing is journaled (Frozen).

    When the client has calls of the open turn, the results among `messages` answer them, and all of them must. Raises
    InvalidInput when the messages leave nothing to answer or answer what nobody asked; Conflict when `s` is not the
    newest state any more.
    """
    version = await caller.database.specs.put(spec, project=s.project, at=caller.clock.now())
    upgrade: tuple[Event, ...] = ()
    if version.version != s.version:
        upgrade = (SessionUpgraded(version.version, policy_digest(spec), caller.actor),)
    if calls_with_client(s):
        events = (*upgrade, *_results(caller, s, spec, messages))
    else:
        events = (*upgrade, *Past(caller, s, len(upgrade), spec).answered(messages))
    return await _append(caller, s, spec, events, _Manner(key, beside))


async def said_under(caller: Caller, session: str, key: Key) -> Appended | None:
    """What `say` journaled under a key, wherever that was, if it did. `session` is any that exists.

    Raises KeyReused when the key came with another request.
    """
    return await kept_under(caller, session, key=bound(caller, key).name, digest=key.digest)


def bound(caller: Caller, key: Key) -> Bound:
    """The key as the store has it: the same wherever in the project its request is journaled."""
    return Bound(f"say:{caller.project}:{key.name}", key.digest)


async def keep(
    caller: Caller, s: Session, messages: Sequence[Message], *, spec: AgentSpec, key: Key | None = None
) -> Appended:
    """Journal `messages` after a session that rests, without having them answered. The same `key` again: once.

    Calls among them that have no output yet are the client's: an output that comes later, in a request of its own, goes
    to its call. Raises InvalidInput for an output of no call, Conflict when `s` is not the newest state any more.
    """
    return await _append(caller, s, spec, Past(caller, s, 0, spec).closed(messages), _Manner(key, quiet=True))


async def withdraw(caller: Caller, s: Session, calls: Sequence[str], *, spec: AgentSpec) -> None:
    """Close calls that the client has, because what asked for them goes: nobody answers them any more."""
    parts = (Text("The call was deleted before it was answered."),)
    gone = [Message("tool", (ToolResult(call, "", parts, True),)) for call in calls]
    await _append(caller, s, spec, Past(caller, s, 0, spec).closed(gone), _Manner(quiet=True))


async def erase(caller: Caller, session: str, positions: Sequence[int], *, reason: str) -> None:
    """Erase the content of these records; their digests stay."""
    if positions:
        events = tuple(Redacted(position, caller.actor, reason) for position in positions)
        await commit(caller, Write(session, events, caller.clock.now(), caller.actor))


@contextmanager
def naming(session: str) -> Generator[None]:
    """What is said first in a session that was opened for it: when there is no room for that, the error names what is
    left behind, which the same request under the same key finds again."""
    try:
        yield
    except StoreFull as error:
        error.message += (
            f" Session {session} was opened for it and is empty: say it there once there is room, or delete it."
        )
        raise


class _Manner(NamedTuple):
    """How events are appended: under which key, with which entries beside them; `quiet`: nobody has to answer them."""

    key: Key | None = None
    beside: Beside | None = None
    quiet: bool = False


async def _append(caller: Caller, s: Session, spec: AgentSpec, events: tuple[Event, ...], manner: _Manner) -> Appended:
    key, beside, quiet = manner
    check_size(caller, len(msgspec.json.encode(events)))
    now = caller.clock.now()
    records = [Recorded(s.id, s.head + 1 + i, now, 0, caller.actor, event) for i, event in enumerate(events)]
    after = fold(s, records)
    with naming(s.id) if s.head == 1 else nullcontext():
        return await commit(
            caller,
            Write(
                session=s.id,
                events=events,
                at=now,
                actor=caller.actor,
                expect=s.head,
                unless_frozen=not quiet,
                wake=not quiet,
                wake_unless="" if quiet else caller.live.driver_of(s.id),
                summary=summary_of(after, spec),
                key=bound(caller, key).name if key else None,
                key_digest=key.digest if key else "",
                entries=beside(records) if beside else (),
                snapshot=encode_snapshot(after) if quiet and _worth_a_snapshot(s, after) else None,
            ),
        )


def _worth_a_snapshot(before: Session, after: Session) -> bool:
    """Whether so much was said without a worker, which takes them elsewhere, that a look should begin here."""
    return after.turn is None and before.head // SNAPSHOT_EVERY_RECORDS < after.head // SNAPSHOT_EVERY_RECORDS


def _results(caller: Caller, s: Session, spec: AgentSpec, messages: Sequence[Message]) -> list[Event]:
    """What the client's calls came to, and what it says besides: the turn hears both before the next model call."""
    results = [p for message in messages if message.role == "tool" for p in message.parts if isinstance(p, ToolResult)]
    waiting = {call.call: call.name for call in calls_with_client(s)}
    answered = [result.call for result in results]
    for call in answered:
        if call not in waiting or answered.count(call) > 1:
            raise no_call(call)
    if missing := sorted(waiting.keys() - set(answered)):
        raise no_output(missing[0])
    if any(message.role == "assistant" for message in messages):
        raise InvalidInput("A reply cannot be put between a call and its output. Nothing was written.", param="input")
    events: list[Event] = []
    for message in messages:
        if message.role == "user":
            shown = shown_bytes(spec, message.parts)
            events.append(InputReceived(caller.make_id("in"), message.parts, caller.actor, "steer", shown=shown))
        events += [
            ToolReturned(r.call, r.parts, r.error, untrusted=spec.distrusts(waiting[r.call]))
            for r in message.parts
            if isinstance(r, ToolResult)
        ]
    return events
