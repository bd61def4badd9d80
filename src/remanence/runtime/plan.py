"""One round of the loop as a value: what to journal, what to dispatch once that is durable, and how to rest after it.

`make_plan` folds the facts that effects reported, then asks `core.decide` until it rests or an intent must leave. It
works on provisional records (the positions the write will have if nobody was faster), so the round is one conditional
transaction and a turn with one tool call is four of them after its input.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from msgspec.structs import replace

from remanence.content import Message, Usage
from remanence.core.context import LAYOUT, Transcript, instructions_of, prompt_of
from remanence.core.decide import CallModel, Note, Recall, Rest, RunTool, decide
from remanence.core.ledger import attempt_key, budget_scopes
from remanence.core.session import evolve
from remanence.core.state import ModelStep, Session, Window
from remanence.events import (
    BlocksShown,
    BudgetReached,
    Event,
    MemoryRecalled,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recalled,
    Recorded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.ports import Charge, Lease, Model
from remanence.spec import AgentSpec

__all__ = ["Dispatch", "Ground", "Outcome", "Plan", "again", "make_plan", "still_wanted"]


class Dispatch(msgspec.Struct, frozen=True):
    """An effect to perform once its intent is durable: a model call with its messages, or a tool call."""

    intent: ModelCalled | ToolStarted
    messages: tuple[Message, ...] = ()
    arguments: str = ""
    instructions: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """A reported fact, and the attempt of the effect it is the outcome of (0: of none).

    The attempt matters after a write of unknown outcome: what became of one attempt must not pass for the next one's.
    """

    event: Event
    attempt: int = 0
    beside: tuple[Event, ...] = ()
    """Facts to journal in the same write, when the outcome is still wanted."""


class Ground(msgspec.Struct, frozen=True):
    """What a round stands on besides the state. With `may_start` False no intent is made."""

    spec: AgentSpec
    text: Transcript
    model: Model
    lease: Lease
    may_start: bool = True
    blocks: tuple[Recalled, ...] | None = None
    """The memory blocks the agent may see now; None: as they were."""


class Plan(msgspec.Struct, frozen=True):
    """What one round wants. `state` is the session after `events`; `facts` is how many reported facts it took in."""

    state: Session
    events: tuple[Event, ...]
    charges: tuple[Charge, ...]
    dispatches: tuple[Dispatch, ...]
    rest: Rest
    facts: int
    unpriced: bool = False
    """A model call is among the intents whose price nobody knows: a money budget cannot cover it."""


class _Round:
    """The accumulator of one plan."""

    def __init__(self, s: Session, text: Transcript, lease: Lease, now: int) -> None:
        self.state = s
        self.text = text
        self.lease = lease
        self.now = now
        self.events: list[Event] = []
        self.charges: list[Charge] = []
        self.dispatches: list[Dispatch] = []
        self.unpriced = False

    def take(self, event: Event) -> None:
        s = self.state
        charge = _charge(s, event) if isinstance(event, _CHARGED) else None
        if charge is not None:
            self.charges.append(charge)
        record = Recorded(s.id, s.head + 1, self.now, self.lease.epoch, self.lease.worker, event)
        self.state = evolve(s, record)
        self.text.add(record)
        self.events.append(event)


def make_plan(s: Session, facts: tuple[Outcome, ...], ground: Ground, *, now: int) -> Plan:
    """The next round. `facts` are outcomes to journal first.

    The ground's transcript takes the provisional records in; when the write is refused, it must be built again.
    """
    spec, lease = ground.spec, ground.lease
    round_ = _Round(s, ground.text, lease, now)
    for fact in facts:
        if still_wanted(round_.state, fact):
            for event in (fact.event, *fact.beside):
                round_.take(event)
    while True:
        action = decide(round_.state, spec, now=now, epoch=lease.epoch)
        match action:
            case Note(event=event):
                round_.take(event)
            case Rest():
                rest = action
                break
            case CallModel() | RunTool() | Recall() if not ground.may_start:
                rest = Rest("held")
                break
            case Recall():
                rest = Rest("recall")
                break
            case CallModel():
                _call_model(round_, ground, action)
            case RunTool(event=event, arguments=arguments):
                round_.take(event)
                if not event.client:
                    round_.dispatches.append(Dispatch(event, arguments=arguments))
            case _:
                assert_never(action)
    return Plan(
        round_.state,
        tuple(round_.events),
        tuple(round_.charges),
        tuple(round_.dispatches),
        rest,
        len(facts),
        round_.unpriced,
    )


def _call_model(round_: _Round, ground: Ground, action: CallModel) -> None:
    spec, model = ground.spec, ground.model
    if ground.blocks is not None and ground.blocks != round_.state.blocks:
        round_.take(BlocksShown(ground.blocks))
    s = round_.state
    prompt = prompt_of(round_.text, s, spec)
    worst = Usage(prompt.input_tokens_bound, spec.limits.output_tokens)
    price = _worst_price(model, spec.model, worst)
    round_.unpriced = price is None
    called = _called(s, spec, ModelStep(action.call, action.attempt, 0, 0), prompt.window, prompt.sent)
    called = replace(called, reserved_usd_micros=price or 0, reserved_tokens=worst.total_tokens)
    round_.take(called)
    round_.dispatches.append(Dispatch(called, messages=prompt.messages, instructions=prompt.instructions))


def _called(s: Session, spec: AgentSpec, step: ModelStep, window: Window, sent: str) -> ModelCalled:
    return ModelCalled(
        step.call,
        s.turns,
        spec.model,
        window.first_turn,
        window.from_position,
        sent,
        window.skipped,
        step.attempt,
        step.reserved_usd_micros,
        step.reserved_tokens,
        layout=LAYOUT,
        cleared=window.cleared,
        compacted_at=s.compacted_at,
        shown_at=s.shown_at,
    )


def _worst_price(model: Model, name: str, worst: Usage) -> int | None:
    """The most this usage can cost: writing a prompt into a provider's cache may cost more than reading it plainly."""
    plain = model.price(name, worst)
    if plain is None:
        return None
    return max(plain, model.price(name, replace(worst, cache_write_tokens=worst.input_tokens)) or 0)


def again(s: Session, spec: AgentSpec, text: Transcript, step: ModelStep) -> Dispatch:
    """The dispatch of a model call whose intent is in the journal already: the same window, the same reservation."""
    content = text.messages(s.window)
    called = _called(s, spec, step, s.window, text.sent_digest(spec, content.digest))
    return Dispatch(called, messages=content.messages, instructions=instructions_of(text, spec))


_CHARGED = (ModelCalled, ModelReplied, ModelFailed)


def _charge(s: Session, event: ModelCalled | ModelReplied | ModelFailed) -> Charge | None:
    """What an event moves on the budgets: an intent reserves, its outcome settles."""
    if isinstance(event, ModelCalled):
        kind, attempt, usd, tokens = "reserve", event.attempt, event.reserved_usd_micros, event.reserved_tokens
    else:
        if s.turn is None or s.turn.model is None:
            return None
        kind, attempt = "settle", s.turn.model.attempt
        usd = event.cost_usd_micros or 0
        tokens = event.usage.total_tokens if isinstance(event, ModelReplied) else event.billed_tokens
    scopes = budget_scopes(session=s.id, agent=s.agent, user=s.user, project=s.project)
    return Charge(kind, attempt_key(s.id, event.call, attempt), scopes, usd, tokens)


def still_wanted(s: Session, fact: Outcome) -> bool:
    """Whether a reported fact is still news: after a write of unknown outcome it may have been journaled already."""
    match fact.event:
        case ModelReplied(call=call) | ModelFailed(call=call):
            step = s.turn.model if s.turn else None
            return step is not None and step.running and (step.call, step.attempt) == (call, fact.attempt)
        case ToolReturned(call=call) | ToolLost(call=call):
            known = s.call(call)
            return known is not None and known.state == "running" and known.attempt == fact.attempt
        case ToolResolved(call=call):
            known = s.call(call)
            current = known is None or known.attempt == fact.attempt
            return current and any(doubt.call == call for doubt in s.doubts)
        case BudgetReached():
            return s.pause is None
        case MemoryRecalled(turn=number):
            return s.turn is not None and s.turn.number == number and not s.turn.recalled
        case _:
            return True
