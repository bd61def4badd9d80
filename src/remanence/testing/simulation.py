"""A worker, the world and any number of crashes, in memory: whole sessions through the real fold, decisions, plans.

`Simulation` has the steps a session is made of: a person writes (`tell`), the worker takes a round (`round`), an effect
happens (`perform`), the worker dies (`crash`). What a worker knows beyond the journal is thrown away by a crash, as a
process that dies forgets it; the journal, the budgets and the outside world stay. It keeps the order of things that
`runtime/driver.py` keeps, without a database and without an event loop, so thousands of crash points take a second.

`simulate` runs a script to its end and lets faults strike at numbered points:

    before a write      crash: nothing was written    refused: the store said no and is asked again
    after a write       crash: nothing was dispatched unheard: it was kept, but the worker did not hear so
    before an effect    crash: it never happened
    after an effect     crash: it happened, and nobody knows its outcome

Every run is deterministic: the same script with the same faults gives the same journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from remanence.content import Message
from remanence.core.context import Place, Remembered, Transcript, remembered
from remanence.core.decide import Rest
from remanence.core.session import evolve, fold
from remanence.core.snapshots import decode_snapshot, encode_snapshot
from remanence.core.state import Session, effect_key, said, waiting_on
from remanence.errors import BudgetExceeded
from remanence.events import (
    GENESIS,
    BudgetRaised,
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
    SessionOpened,
    ToolReturned,
    ToolStarted,
    chain_digest,
    encode_event,
    payload_digest,
)
from remanence.ports import Lease
from remanence.runtime.plan import Dispatch, Ground, Outcome, Plan, again, make_plan
from remanence.spec import AgentSpec, policy_digest, spec_digest
from remanence.testing.surroundings import Book, Prices, Script, Unit, dialogue

__all__ = ["Book", "Fault", "Script", "Simulation", "dialogue", "simulate"]

Fault = Literal["crash", "refused", "unheard"]
BEGINS_AT = 1_800_000_000_000_000
MINUTE_US = 60_000_000
PRICES = Prices()
ROUNDS_MAX = 2_000
"""Rounds after which `simulate` says that a session does not come to rest."""


# --- the session ------------------------------------------------------------------------------------------------------


class Simulation:
    """One session, its surroundings, and the worker that has it.

    `records` is the journal, `writes` the appends of workers, `performed` the tool starts that reached the world,
    `billed` what the provider really charged (micro-USD and tokens alike).
    """

    def __init__(self, spec: AgentSpec, script: Script, *, session: str = "s") -> None:
        self.script = script
        self.specs = {spec_digest(known): known for known in (spec, *script.versions)}
        self.now = BEGINS_AT
        self.epoch = 1
        self.book = Book(script.budgets)
        self.records: list[Recorded] = []
        self.writes: list[tuple[Event, ...]] = []
        self.prompts: list[tuple[ModelCalled, tuple[Message, ...]]] = []
        self.summaries: list[tuple[CompactionBegun, tuple[Message, ...]]] = []
        self.performed: list[ToolStarted] = []
        self.recall: tuple[Recalled, ...] = ()
        """What comes to mind before each turn, of agents with a memory."""
        self.billed = 0
        self.points = 0
        self.crashes = 0
        self.faults: Mapping[int, Fault] = {}
        self._snapshot: bytes | None = None
        self.session = session
        self.tell(SessionOpened(spec.name, spec_digest(spec), policy_digest(spec), user="ada"))
        self.forget()

    # --- what the worker knows, and forgets ---------------------------------------------------------------------------

    def forget(self) -> None:
        """Throw away what the worker knows beyond the journal."""
        self.facts: list[Outcome] = []
        self.compacted: Outcome | None = None
        self.in_flight: dict[str, Dispatch] = {}
        self._outcomes: dict[str, Event] = {}
        self._asked: set[tuple[str, int]] = set()
        self.may_compact = True
        self._reload()

    def _reload(self) -> None:
        """Fold again, from the newest snapshot as a worker does, and read the window from where it starts."""
        s = decode_snapshot(self._snapshot, self.session)
        s = s or Session(self.session)
        self.state = fold(s, self.records[s.head :])
        self.text = Transcript(self._known())
        start = self.state.window.from_position
        for earlier in sorted({self.state.compacted_at, self.state.shown_at}):
            if 0 < earlier < start:
                self.text.add(self.records[earlier - 1])
        for record in self.records[start - 1 :]:
            self.text.add(record)
        self._orphans = True

    def _known(self) -> dict[Place, Remembered]:
        """What references of this session to itself say."""
        told = {(self.session, record.position): remembered(record) for record in self.records}
        return {place: what for place, what in told.items() if what is not None}

    def crash(self) -> None:
        """The worker dies; the next lease has a higher epoch."""
        self.crashes += 1
        self.epoch += 1
        self.forget()

    @property
    def spec(self) -> AgentSpec:
        """The version the session is pinned to, as far as the worker has read."""
        return self.specs[self.state.version]

    # --- the steps ----------------------------------------------------------------------------------------------------

    def tell(self, *events: Event, actor: str = "ada") -> None:
        """A person, or a command, writes; no lease is needed. Whoever says that a budget was raised raises it."""
        for event in events:
            if isinstance(event, BudgetRaised) and (event.scope, event.unit) in self.book.limits:
                self.book.limits[(event.scope, event.unit)] = event.limit
        self._append(events, epoch=0, actor=actor)

    def folded(self) -> Session:
        """The session as everybody may read it: folded from the journal alone."""
        return fold(self.state, self.records[self.state.head :])

    def strike(self, fault: Fault) -> None:
        """The worker takes a round, and its write meets this fault."""
        self.faults = {self.points + (2 if fault == "unheard" else 1): fault}
        self.round()
        self.faults = {}

    def round(self) -> Rest:
        """The worker takes one round: fold what is new, decide, write, dispatch."""
        self.text.know(self._known())
        for record in self.records[self.state.head :]:
            self.state = evolve(self.state, record)
            self.text.add(record)
        if self._strikes("crash", "refused"):
            return Rest("struck")
        plan = self._plan()
        if plan.events and not self._write(plan):
            return Rest("struck")
        if self._strikes("crash", "unheard"):
            return Rest("struck")
        self.state = plan.state
        del self.facts[: plan.facts]
        self._settle_in(plan)
        return plan.rest

    def perform(self, call: str) -> None:
        """The effect of `call` happens, and the worker hears of its outcome."""
        if self._strikes("crash"):
            return
        self.happen(call)
        if self._strikes("crash"):
            return
        outcome = Outcome(self._outcomes.pop(call), self.in_flight.pop(call).intent.attempt)
        if isinstance(outcome.event, ContextCompacted | CompactionFailed):
            self.compacted = outcome
        else:
            self.facts.append(outcome)

    def happen(self, call: str) -> None:
        """The effect of `call` reaches the world; the worker has not heard yet."""
        if call in self._outcomes:
            return
        intent = self.in_flight[call].intent
        if isinstance(intent, ToolStarted):
            self.performed.append(intent)
            outcome = self.script.tool(intent, self.in_flight[call].arguments)
        elif isinstance(intent, CompactionBegun):
            outcome = self.script.summary(intent, self.in_flight[call].messages)
            self.billed += outcome.usage.total_tokens
        else:
            outcome = self.script.model(intent, self.in_flight[call].messages)
            if isinstance(outcome, ModelReplied):
                self.billed += outcome.usage.total_tokens
        self._outcomes[call] = outcome

    def reconcile(self, call: str) -> None:
        """Ask the tool about a doubt, once for each worker and each time that it is due."""
        doubt = next((doubt for doubt in self.state.doubts if doubt.call == call), None)
        if doubt is None or (call, doubt.asked) in self._asked:
            return
        self._asked.add((call, doubt.asked))
        found = self.script.reconcile(doubt, any(p.effect_key == doubt.effect_key for p in self.performed))
        if found is not None:
            known = self.state.call(call)
            self.facts.append(Outcome(found, known.attempt if known else 0))

    # --- writing ------------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        lease = Lease(self.session, f"worker-{self.epoch}", self.epoch, self.now + MINUTE_US)
        ground = Ground(self.spec, self.text, PRICES, lease, summary=self.compacted, may_compact=self.may_compact)
        return make_plan(self.state, tuple(self.facts), ground, now=self.now)

    def _write(self, plan: Plan) -> bool:
        """Journal a plan; False when a budget refused it, and the worker takes another round."""
        try:
            self.book.move(plan.charges)
        except BudgetExceeded as reached:
            if plan.compacts:
                self.may_compact = False
                self._reload()
                return False
            unit: Unit = "tokens" if reached.unit == "tokens" else "usd_micros"
            fact = BudgetReached(reached.scope, unit, reached.limit, reached.used, reached.needed)
            self.facts.append(Outcome(fact))
            self._reload()
            return False
        self._append(plan.events, epoch=self.epoch, actor=f"worker-{self.epoch}")
        self.writes.append(plan.events)
        if plan.state.turn is None:
            self._snapshot = encode_snapshot(plan.state)
        return True

    def _append(self, events: Sequence[Event], *, epoch: int, actor: str) -> None:
        for event in events:
            position = len(self.records) + 1
            previous = self.records[-1].digest if self.records else GENESIS
            payload = payload_digest(encode_event(event))
            digest = chain_digest(previous, payload, position=position, at=self.now, epoch=epoch, actor=actor)
            self.records.append(Recorded(self.session, position, self.now, epoch, actor, event, digest))

    # --- dispatching --------------------------------------------------------------------------------------------------

    def _settle_in(self, plan: Plan) -> None:
        if plan.summarised:
            self.compacted = None
        for dispatch in plan.dispatches:
            self._dispatch(dispatch)
        if self._orphans:
            self._orphans = False
            self._dispatch_orphans()
        for call in plan.rest.abort:
            self._abort(call)
        for call in plan.rest.reconcile:
            self.reconcile(call)
        if plan.rest.why == "recall":
            self.facts.append(Outcome(MemoryRecalled(self.state.turns, self.recall)))
        self.text.forget_before(self.state.window.first_turn)

    def _dispatch(self, dispatch: Dispatch) -> None:
        self.in_flight[dispatch.intent.call] = dispatch
        if isinstance(dispatch.intent, CompactionBegun):
            self.summaries.append((dispatch.intent, dispatch.messages))
        if isinstance(dispatch.intent, ModelCalled):
            self.prompts.append((dispatch.intent, dispatch.messages))

    def _dispatch_orphans(self) -> None:
        """Intents that a write nobody heard of did journal: they were never dispatched, so they are now."""
        turn, begun = self.state.turn, self.state.compacting
        if begun and begun.epoch == self.epoch and begun.call not in self.in_flight and not self.compacted:
            never = CompactionFailed(begun.call, "lost", "its intent was journaled, and it never left")
            self.compacted = Outcome(never, begun.attempt)
        busy = {*self.in_flight, *(call for fact in self.facts if (call := getattr(fact.event, "call", None)))}
        if turn is None:
            return
        step = turn.model
        if step is not None and step.running and step.epoch == self.epoch and step.call not in busy:
            self._dispatch(again(self.state, self.specs[step.version], self.text, step))
        for call in turn.calls:
            if call.state == "running" and call.epoch == self.epoch and call.call not in busy:
                key = effect_key(self.state, call.call)
                started = ToolStarted(call.call, call.name, key, call.replay, call.attempt)
                self._dispatch(Dispatch(started, arguments=call.arguments))

    def _abort(self, call: str) -> None:
        dispatch = self.in_flight.pop(call, None)
        if dispatch is None:
            return
        self._outcomes.pop(call, None)
        if isinstance(dispatch.intent, ModelCalled):
            fact: Event = ModelFailed(
                call,
                "cancelled",
                "cancelled while the model was answering",
                cost_usd_micros=dispatch.intent.reserved_usd_micros,
                billed_tokens=dispatch.intent.reserved_tokens,
            )
        else:
            fact = ToolReturned(call, said("The tool gave no result: cancelled while it ran."), error=True)
        self.facts.append(Outcome(fact, dispatch.intent.attempt))

    def _strikes(self, *kinds: Fault) -> bool:
        """Whether a fault of one of these kinds is due at this point; if so, it has happened when this returns."""
        self.points += 1
        fault = self.faults.get(self.points)
        if fault not in kinds:
            return False
        if fault == "crash":
            self.crash()
        else:
            self._reload()
        return True


# --- whole runs -------------------------------------------------------------------------------------------------------


def simulate(
    spec: AgentSpec, script: Script, *, faults: Mapping[int, Fault] | Sequence[int] = (), session: str = "s"
) -> Simulation:
    """Run a script to its end. `faults` strike at numbered points (a sequence of numbers: crashes there).

    The result says how many `points` there were: run once without faults to learn their number, then once for each.
    AssertionError when the session does not come to rest.
    """
    simulation = Simulation(spec, script, session=session)
    simulation.faults = faults if isinstance(faults, Mapping) else dict.fromkeys(faults, "crash")
    inputs = list(script.inputs)
    for _ in range(ROUNDS_MAX):
        if not _step(simulation, simulation.round(), inputs):
            return simulation
    raise AssertionError(f"session {session} did not come to rest in {ROUNDS_MAX} rounds")


def _step(simulation: Simulation, rest: Rest, inputs: list[Event]) -> bool:
    """Let something happen after a round; False when nothing will any more."""
    if rest.why == "struck" or simulation.facts or (simulation.compacted and not simulation.in_flight):
        return True
    if simulation.in_flight:
        simulation.perform(next(iter(simulation.in_flight)))
        return True
    told = simulation.script.person(simulation.state) if waiting_on(simulation.state) else ()
    if not told and rest.wake_at is not None:
        simulation.now = max(simulation.now, rest.wake_at)
        return True
    if not told and inputs:
        told = (inputs.pop(0),)
    simulation.tell(*told)
    return bool(told)
