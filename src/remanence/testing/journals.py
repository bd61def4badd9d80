"""Given a journal, when something more happens, then this follows: tests of the loop in plain Python, no database.

    case = given(spec, heard("Refund order 42"))
    case = case.then(TurnStarted, CallModel("model_1_1", 1))
    case = case.when(replied("model_1_1", wants("refund", cents=900)))
    case.then(CallJudged, RunTool, Rest("running"))

A `Case` is a value: `when` and `then` give new ones, so one beginning serves many endings. `then` asks `core.decide`
and folds what it answers; each expectation is a value (compared whole) or a class (compared by kind). A crash is
`when(epoch=case.epoch + 1)`: the next lease finds what the last one left behind.

`simulate` (in `remanence.testing.simulation`) runs whole sessions the same way, and crashes them anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.content import Part, Text, ToolCall, Usage
from remanence.core.decide import Action, CallModel, Note, Recall, Rest, RunTool, decide
from remanence.core.session import evolve, fold
from remanence.core.state import Session
from remanence.events import (
    GENESIS,
    ApprovalGiven,
    BudgetRaised,
    CancelAsked,
    Event,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    MemoryRecalled,
    ModelCalled,
    ModelReplied,
    Recorded,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
    ToolResolved,
    ToolReturned,
    chain_digest,
    encode_event,
    payload_digest,
)
from remanence.spec import AgentSpec, IfBusy, policy_digest, spec_digest
from remanence.testing.simulation import Book, Fault, Script, Simulation, dialogue, simulate

__all__ = [
    "NOW",
    "Book",
    "Case",
    "Fault",
    "Script",
    "Simulation",
    "approved",
    "called",
    "dialogue",
    "given",
    "heard",
    "journal",
    "opened",
    "replied",
    "returned",
    "simulate",
    "wants",
]

NOW = 1_800_000_000_000_000
"""When the journals of `given` begin: microseconds since 1970-01-01 UTC."""

COMMANDS = (
    ApprovalGiven,
    BudgetRaised,
    CancelAsked,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
    ToolResolved,
)
"""What people write, without a lease; everything else is written by a worker under one."""


# --- words for what happened ------------------------------------------------------------------------------------------


def opened(spec: AgentSpec, *, user: str = "ada", title: str = "") -> SessionOpened:
    """A session of this spec was opened."""
    return SessionOpened(spec.name, spec_digest(spec), policy_digest(spec), user=user, title=title)


def heard(text: str, *, name: str = "in", if_busy: IfBusy = "queue", answers: str | None = None) -> InputReceived:
    """Somebody said `text`, in the input called `name`."""
    return InputReceived(name, (Text(text),), "ada", if_busy, answers)


def called(call: str, *, attempt: int = 1, window_from: int = 1) -> ModelCalled:
    """The intent of a model call such as `model_1_2` (turn 1, second call)."""
    return ModelCalled(call, int(call.split("_")[1]), "scripted", 1, window_from, "", attempt=attempt)


def replied(call: str, *said: Part | str, usage: Usage | None = None, cost: int | None = None) -> ModelReplied:
    """The model answered `call` with texts and tool calls."""
    parts = tuple(Text(part) if isinstance(part, str) else part for part in said)
    return ModelReplied(call, parts, usage or Usage(), cost)


def wants(tool: str, call: str = "call_1_1_1", /, **arguments: Any) -> ToolCall:
    """A tool call, as a part of a reply."""
    return ToolCall(call, tool, msgspec.json.encode(arguments).decode())


def returned(call: str, text: str = "done", *, error: bool = False, started: bool = True) -> ToolReturned:
    """A tool answered."""
    return ToolReturned(call, (Text(text),), error, started)


def approved(s: Session, call: str, *, by: str = "grace", expires_at: int | None = None) -> ApprovalGiven:
    """A person says yes to the call as it stands in `s`."""
    known = s.call(call)
    if known is None:
        raise AssertionError(f"the session has no open call {call}")
    return ApprovalGiven(call, "approve", by, known.digest, known.policy, expires_at=expires_at)


# --- journals ---------------------------------------------------------------------------------------------------------


def journal(
    *events: Event, session: str = "s", at: int = NOW, epoch: int = 1, after: Sequence[Recorded] = ()
) -> tuple[Recorded, ...]:
    """Events as records that follow `after`: positions, authors, chained digests as a store writes them."""
    position = after[-1].position if after else 0
    digest = after[-1].digest if after else GENESIS
    records: list[Recorded] = []
    for event in events:
        position += 1
        person = isinstance(event, COMMANDS)
        written, actor = (0, "ada") if person else (epoch, f"worker-{epoch}")
        payload = payload_digest(encode_event(event))
        digest = chain_digest(digest, payload, position=position, at=at, epoch=written, actor=actor)
        records.append(Recorded(session, position, at, written, actor, event, digest))
    return tuple(records)


class Case(msgspec.Struct, frozen=True):
    """A journal, the state it folds to, and the lease and the time under which the next decision is taken."""

    spec: AgentSpec
    records: tuple[Recorded, ...]
    state: Session
    now: int = NOW
    epoch: int = 1

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(record.event for record in self.records)

    def when(
        self, *events: Event, now: int | None = None, epoch: int | None = None, spec: AgentSpec | None = None
    ) -> Case:
        """The case after these events, at `now`, under the lease of `epoch`, with another version of the agent."""
        case = replace(self, now=now or self.now, epoch=epoch or self.epoch, spec=spec or self.spec)
        for event in events:
            case = _with(case, event)
        return case

    def decide(self) -> Action:
        """What follows."""
        return decide(self.state, self.spec, now=self.now, epoch=self.epoch)

    def then(self, *expected: Event | Action | type[Any]) -> Case:
        """Check what follows, one by one, and fold it. AssertionError says where it went another way."""
        case = self
        for number, wanted in enumerate(expected, start=1):
            action = case.decide()
            got = action.event if isinstance(action, Note) else action
            if not _fits(got, wanted):
                raise AssertionError(f"expectation {number}:\n  wanted {wanted}\n  got    {got}\n{_told(case.records)}")
            case = _with(case, _fact(action, case)) if not isinstance(action, Rest) else case
        return case

    def settle(self, *, notes_max: int = 10_000) -> tuple[Case, Rest]:
        """Follow every decision until the session rests. AssertionError when it does not."""
        case = self
        for _ in range(notes_max):
            action = case.decide()
            if isinstance(action, Rest):
                return case, action
            case = _with(case, _fact(action, case))
        raise AssertionError(f"no rest after {notes_max} decisions\n{_told(case.records[-20:])}")


def given(spec: AgentSpec, *events: Event, session: str = "s", now: int = NOW, epoch: int = 1) -> Case:
    """A session in which these events happened. It is opened first, unless they begin with an opening of their own."""
    if not events or not isinstance(events[0], SessionOpened | SessionForked):
        events = (opened(spec), *events)
    records = journal(*events, session=session, at=now, epoch=epoch)
    return Case(spec, records, fold(Session(session), records), now, epoch)


def _with(case: Case, event: Event) -> Case:
    record = journal(event, session=case.state.id, at=case.now, epoch=case.epoch, after=case.records[-1:])[0]
    return replace(case, records=(*case.records, record), state=evolve(case.state, record))


def _fits(got: object, wanted: object) -> bool:
    return isinstance(got, wanted) if isinstance(wanted, type) else got == wanted


def _fact(action: Note | CallModel | RunTool | Recall, case: Case) -> Event:
    """What the driver would journal for an action; a prompt is not built here, and nothing comes to mind."""
    if isinstance(action, Recall):
        return MemoryRecalled(action.turn)
    if not isinstance(action, CallModel):
        return action.event
    window = case.state.window
    intent = called(action.call, attempt=action.attempt)
    return replace(intent, first_turn=window.first_turn, window_from=window.from_position, skipped=window.skipped)


def _told(records: Iterable[Recorded]) -> str:
    return "\n".join(f"  #{record.position} {record.event}" for record in records)
