"""What a round is made of: what it stands on, what it gathers, what it moves on the budgets, what it comes to."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from remanence.content import Message, Usage
from remanence.core.context import Transcript
from remanence.core.decide import Rest
from remanence.core.ledger import attempt_key, budget_scopes
from remanence.core.session import evolve
from remanence.core.state import Session
from remanence.events import (
    BudgetReached,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
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
from remanence.models.prices import price_of
from remanence.ports import Charge, Lease, Model
from remanence.spec import AgentSpec

__all__ = ["Dispatch", "Ground", "Outcome", "Plan", "Round", "still_wanted", "worst_price"]


class Dispatch(msgspec.Struct, frozen=True):
    """An effect to perform once its intent is durable: a model call with its messages, or a tool call."""

    intent: ModelCalled | ToolStarted | CompactionBegun
    messages: tuple[Message, ...] = ()
    arguments: str = ""
    instructions: str = ""
    spec: AgentSpec | None = None
    """The version a model call leaves under: an upgrade may come between its intent and its dispatch."""


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
    summary: Outcome | None = None
    """The outcome of a compaction, which is taken in between steps: the window of a running call must stay."""
    may_compact: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What one round wants. `state` is the session after `events`; `facts` is how many reported facts it took in."""

    state: Session
    events: tuple[Event, ...]
    charges: tuple[Charge, ...]
    dispatches: tuple[Dispatch, ...]
    rest: Rest
    facts: int
    summarised: bool = False
    """The outcome of the compaction was taken in, or is no news any more."""
    unpriced: bool = False
    """A model call is among the intents whose price nobody knows: a money budget cannot cover it."""

    def followed_by(self, more: Plan) -> Plan:
        """The plan that does what this one does and goes on with `more`, which was made from its state."""
        return replace(
            more,
            events=(*self.events, *more.events),
            charges=(*self.charges, *more.charges),
            dispatches=(*self.dispatches, *more.dispatches),
            facts=self.facts,
            summarised=self.summarised or more.summarised,
            unpriced=self.unpriced or more.unpriced,
        )

    @property
    def compacts(self) -> bool:
        """Whether a compaction is among the intents."""
        return any(isinstance(event, CompactionBegun) for event in self.events)


class Round:
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


def worst_price(model: Model, name: str, worst: Usage, tier: str = "") -> int | None:
    """The most this usage can cost: writing a prompt into a provider's cache may cost more than reading it plainly."""
    plain = price_of(model, name, worst, tier)
    if plain is None:
        return None
    return max(plain, price_of(model, name, replace(worst, cache_write_tokens=worst.input_tokens), tier) or 0)


_CompactionEvent = CompactionBegun | ContextCompacted | CompactionFailed
_CHARGED = (ModelCalled, ModelReplied, ModelFailed, CompactionBegun, ContextCompacted, CompactionFailed)


def _charge(s: Session, event: ModelCalled | ModelReplied | ModelFailed | _CompactionEvent) -> Charge | None:
    """What an event moves on the budgets: an intent reserves, its outcome settles."""
    if isinstance(event, _CompactionEvent):
        return _compaction_charge(s, event)
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


def _compaction_charge(s: Session, event: _CompactionEvent) -> Charge | None:
    if isinstance(event, CompactionBegun):
        kind, attempt, usd, tokens = "reserve", event.attempt, event.reserved_usd_micros, event.reserved_tokens
    elif event.call and s.compacting is not None:
        kind, attempt, usd = "settle", s.compacting.attempt, event.cost_usd_micros or 0
        tokens = event.usage.total_tokens or (event.billed_tokens if isinstance(event, CompactionFailed) else 0)
    else:
        return None
    scopes = budget_scopes(session=s.id, agent=s.agent, user=s.user, project=s.project)
    return Charge(kind, attempt_key(s.id, event.call, attempt), scopes, usd, tokens)


def still_wanted(s: Session, fact: Outcome) -> bool:
    """Whether a reported fact is still news: after a write of unknown outcome it may have been journaled already."""
    match fact.event:
        case ModelReplied(call=call) | ModelFailed(call=call):
            step = s.turn.model if s.turn else None
            return step is not None and step.running and (step.call, step.attempt) == (call, fact.attempt)
        case ToolLost(call=call, asked=asked) if asked:
            known = s.call(call)
            current = known is None or known.attempt == fact.attempt
            return current and any(doubt.call == call and doubt.asked == asked - 1 for doubt in s.doubts)
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
