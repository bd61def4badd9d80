"""One session, driven: fold what is new, decide, journal the intent, dispatch it, journal the outcome.

The driver holds the session's lease for as long as it runs. Everything it knows can be thrown away and read again (see
`following.py`); what it must get right is the order of things:

* An effect is dispatched only after its intent is durable, and begins only while the lease holds by this clock: that is
  looked at in the effect's own task, with nothing awaited in between, and again by a tool that waits before it begins.
* A decision is written with `expect`: when a person spoke meanwhile, the write is refused, the journal is read again,
  and the decision is taken again. A reported outcome is a fact: it is kept until it is journaled.
* After a write whose outcome is unknown the journal is read. An intent found there that this driver never dispatched is
  dispatched now (its own epoch, and no task runs for it); an outcome found there is not written twice.
* A fenced driver stops at once and changes nothing: another worker has the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from remanence.content import text_of
from remanence.core.context import Transcript
from remanence.core.decide import Rest
from remanence.core.state import Session, effect_key
from remanence.errors import BudgetExceeded, Conflict, Fenced, Frozen, StoreCorrupt, StoreError
from remanence.events import (
    BudgetRaised,
    BudgetReached,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    Event,
    ModelCalled,
    Recalled,
    Recorded,
)
from remanence.ports import Lease, Write
from remanence.runtime.bell import Bell
from remanence.runtime.effects import Report, Sent, call_model, run_tool, summarise
from remanence.runtime.following import Followed
from remanence.runtime.pausing import end_of_pause, refuse_unpriced, still_held
from remanence.runtime.plan import Dispatch, Ground, Outcome, Plan, make_plan, undispatched
from remanence.runtime.recall import recall, understand
from remanence.runtime.reconciling import reconcile_doubt
from remanence.runtime.running import Running
from remanence.runtime.services import Services
from remanence.spec import AgentSpec
from remanence.stores.rows import earliest

__all__ = ["Driver"]

log = structlog.get_logger("remanence.driver")

_MICROS = 1_000_000
_EXPIRED_LEASE_POLL_S = 0.05
LAST_PART = 10
"""Nothing begins in the last tenth of a lease, which a worker that lives renews at its first third."""
Effect = Coroutine[Any, Any, Event | Report | None]


class Driver:
    """Runs one session under one lease until it rests, is drained, or is fenced."""

    def __init__(self, services: Services, lease: Lease) -> None:
        self.services = services
        self.lease = lease
        self.followed = Followed(services.database, lease.session)
        self.draining = False
        self._fenced = False
        self._orphans = False
        self._held_until = 0
        self._last_part_us = services.times.lease_s * _MICROS / LAST_PART
        self._stirred = Bell()
        self.rests = self.leaves = False
        self._facts: list[Outcome] = []
        self._compacted: Outcome | None = None
        self._may_compact = True
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reconciled: set[tuple[str, int]] = set()
        self._planned: Plan | None = None
        self._failures = 0

    @property
    def state(self) -> Session:
        return self.followed.state

    @property
    def spec(self) -> AgentSpec:
        return self.followed.spec

    @property
    def text(self) -> Transcript:
        return self.followed.text

    # --- what others tell the driver ----------------------------------------------------------------------------------

    def tell(self, record: Recorded) -> None:
        """A record of this session was committed in this process."""
        if self.followed.tell(record):
            self._stirred.set()

    def foresee(self, write: Write) -> None:
        """A write is about to be queued in this process: a session at rest begins with it before it is there."""
        if self.rests and self.followed.foresee(write):
            self._stirred.set()

    def nudge(self) -> None:
        """Something about this session changed elsewhere: read the journal again."""
        self.followed.nudge()
        self._stirred.set()

    def drain(self) -> None:
        """Start nothing new; finish what runs, then give the lease back."""
        self.draining = True
        self._stirred.set()

    def leave(self) -> None:
        """Others wait for a place: give the lease back as soon as nothing is left to do."""
        self.leaves = True
        self._stirred.set()

    def fence(self) -> None:
        """The lease is lost: stop at once, write nothing."""
        self._fenced = True
        for task in self._tasks.values():
            task.cancel()
        self._stirred.set()

    def running(self) -> list[Running]:
        """The tool calls that have not come back."""
        s = self.state
        calls = (
            [call for call in s.turn.calls if call.state == "running" and call.call in self._tasks] if s.turn else []
        )
        return [Running(s.id, call.name, effect_key(s, call.call), call.replay) for call in calls]

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive until there is nothing to do. Returns when the lease was given back or lost."""
        try:
            while not self._fenced:
                self._stirred.clear()
                if await self._round():
                    return
        except Fenced:
            log.info("fenced: another worker has the session", session=self.lease.session, epoch=self.lease.epoch)
        finally:
            self._reached()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _round(self) -> bool:
        """One round; True when the driver is done with the session."""
        try:
            await self.followed.absorb()
            plan = self._planned = self._plan(await self._blocks(self.state), self.state, tuple(self._facts))
            if plan.rest.why == "recall":
                plan = self._planned = await self._recalled(plan)
            if self.followed.foreseen is not None and (plan.unpriced or not plan.events):
                self._reload()  # nothing begins with it: whoever commits it will tell
                return False
            if plan.unpriced:
                await refuse_unpriced(self.services.database.controls, self.state, self.spec.model)
            if plan.events:
                await self._commit(plan)
            self._settle_in(plan)
            await self._take_up_orphans(plan.state)
            return await self._rest(plan.rest)
        except BudgetExceeded as reached:
            self._reload()
            if self._planned is not None and self._planned.compacts:
                self._may_compact = False  # a summary is not worth a pause: the window can be cut without one
            else:
                self._facts.append(Outcome(_budget_reached(reached)))
        except Frozen:
            self._reload()
            self._held_until = self.services.clock.now() + int(self.services.times.held_s * _MICROS)
        except Fenced:
            raise
        except Conflict:
            self._reload()
        except StoreCorrupt:
            raise
        except StoreError as error:
            await self._wait_for_store(error)
        return False

    async def _blocks(self, s: Session) -> tuple[Recalled, ...] | None:
        """The memory blocks the agent may see now: a right that was taken away holds from the next call on."""
        recollector = self.services.recollector
        if self.spec.memory is None or recollector is None:
            return () if s.blocks else None
        blocks = await recollector.blocks(s, self.spec)
        await understand(self.services.database.store, self.text, (), blocks)
        return blocks

    def _plan(self, blocks: tuple[Recalled, ...] | None, s: Session, facts: tuple[Outcome, ...]) -> Plan:
        now = self.services.clock.now()
        may_start = not self.draining and now >= self._held_until and self._may_act()
        ground = Ground(
            self.spec,
            self.text,
            self.services.model,
            self.lease,
            may_start,
            blocks,
            self._compacted,
            self._may_compact,
        )
        return make_plan(s, facts, ground, now=now)

    async def _recalled(self, plan: Plan) -> Plan:
        """The same round, gone on with what came to mind for its turn: one write more would say nothing more."""
        asked = self.text.turns[-1].messages if self.text.turns else []
        words = "\n".join(text_of(message.parts) for message in asked if message.role == "user")
        fact = await recall(self.services.recollector, plan.state, self.spec, words)
        await understand(self.services.database.store, self.text, (), fact.items)
        return plan.followed_by(self._plan(await self._blocks(plan.state), plan.state, (Outcome(fact),)))

    async def _commit(self, plan: Plan) -> None:
        write = self.followed.write_of(plan, self.lease, self.services.worker)
        appended = await self.services.database.store.append(write)
        self.followed.landed(plan.state, write, appended.records[-1].digest)
        self._reached()
        del self._facts[: plan.facts]
        self.services.live.show(plan.state.id, appended.records)

    def _settle_in(self, plan: Plan) -> None:
        """The plan is durable: dispatch its effects."""
        if not plan.events:
            del self._facts[: plan.facts]
        if plan.summarised:
            self._compacted = None
        if self._may_act():
            for dispatch in plan.dispatches:
                self._dispatch(dispatch)
        elif plan.dispatches:
            self._orphans = True  # the lease ran out while the intent was written: only once it is renewed
        for call in plan.rest.abort:
            if call in self._tasks:
                # Soon, not now: a task that is cancelled before its first step ends without ever reporting an outcome.
                asyncio.get_running_loop().call_soon(self._tasks[call].cancel)
        for call in plan.rest.reconcile:
            self._reconcile(call)
        self.text.forget_before(self.state.window.first_turn)

    async def _take_up_orphans(self, s: Session) -> None:
        """Dispatch the intents that were journaled and never dispatched (an append of unknown outcome, a lease that ran
        out): now, or when the freeze that came meanwhile is lifted."""
        if not self._orphans or self.draining:
            return
        self._orphans = False  # until an effect says otherwise, perhaps while this waits
        begun = s.compacting
        if begun and begun.epoch == self.lease.epoch and begun.call not in self._tasks and not self._compacted:
            never = CompactionFailed(begun.call, "lost", "its intent was journaled, and it never left")
            self._compacted = Outcome(never, begun.attempt)
        known = {*self._tasks, *(call for fact in self._facts if (call := getattr(fact.event, "call", None)))}
        found = undispatched(s, await self._spec_of(s), self.text, self.lease.epoch, known)
        held = bool(found) and (s.frozen is not None or await still_held(self.services.database.controls, s))
        if held or not self._may_act():
            self._orphans = True
            return
        for dispatch in found:
            self._dispatch(dispatch)

    async def _spec_of(self, s: Session) -> AgentSpec:
        """The version under which the running model call was meant to leave."""
        version = s.turn.model.version if s.turn and s.turn.model else ""
        known = version in ("", self.followed.version)
        return self.spec if known else await self.services.database.specs.get(version)

    def _may_act(self) -> bool:
        """Whether an effect may begin. Not in the last part of the lease: the next worker's clock may be ahead."""
        return not self._fenced and self.lease.until - self.services.clock.now() > self._last_part_us

    # --- effects ------------------------------------------------------------------------------------------------------

    def _dispatch(self, dispatch: Dispatch) -> None:
        intent = dispatch.intent
        if isinstance(intent, ModelCalled):
            sent = Sent(dispatch.messages, dispatch.instructions)
            effect = call_model(self.services, self.state, dispatch.spec or self.spec, intent, sent)
        elif isinstance(intent, CompactionBegun):
            sent = Sent(dispatch.messages, dispatch.instructions)
            effect = summarise(self.services, self.state, dispatch.spec or self.spec, intent, sent)
        else:
            effect = run_tool(self.services, self.state, self.spec, intent, dispatch.arguments, self._may_act)
        self._start(intent.call, intent.attempt, effect)

    def _reconcile(self, call: str) -> None:
        doubt = next((doubt for doubt in self.state.doubts if doubt.call == call), None)
        if doubt is None or (call, doubt.asked) in self._reconciled or call in self._tasks:
            return
        self._reconciled.add((call, doubt.asked))
        tool = self.services.tools.find(self.state.agent, doubt.tool)
        if tool is not None and tool.spec.reconciles:
            known = self.state.call(call)
            self._start(call, known.attempt if known else 0, reconcile_doubt(self.services, tool, doubt), acts=False)

    def _start(self, call: str, attempt: int, effect: Effect, *, acts: bool = True) -> None:
        task = self._tasks[call] = asyncio.create_task(self._perform(call, attempt, effect, acts), name=call)
        task.add_done_callback(lambda _: effect.close())  # a task cancelled before its first step awaits nothing

    async def _perform(self, call: str, attempt: int, effect: Effect, acts: bool) -> None:
        """Run one effect and report its outcome. A fenced driver reports nothing: the fact belongs to another now."""
        try:
            fact = await effect if not acts or self._may_act() else None
        except Exception:
            log.exception("an effect ended without an outcome: who has the session next takes it for lost", call=call)
            self.fence()
            return
        self._orphans |= acts and fact is None  # one that did not begin is begun once the lease is renewed
        if self._tasks.get(call) is asyncio.current_task():
            del self._tasks[call]
        self._stirred.set()
        if fact is not None and not self._fenced:
            report = fact if isinstance(fact, Report) else Report(fact)
            outcome = Outcome(report.event, attempt, report.beside)
            if isinstance(report.event, ContextCompacted | CompactionFailed):
                self._compacted = outcome
            else:
                self._facts.append(outcome)

    # --- resting ------------------------------------------------------------------------------------------------------

    async def _rest(self, rest: Rest) -> bool:
        """Wait for news, an outcome or a date; True when the lease was given back."""
        if self._facts or self.followed.news or (self._compacted and not _model_runs(self.state)):
            return False
        now = self.services.clock.now()
        wake_at = rest.wake_at
        if not self._may_act() and not self.draining and (self._orphans or rest.why == "held"):
            await self.services.clock.wait(self._stirred, _EXPIRED_LEASE_POLL_S)
            return False
        if rest.why == "held":
            wake_at = now if self.draining else max(self._held_until, now)
        delay_s = None if wake_at is None else max(0, wake_at - now) / _MICROS
        if self._tasks:
            await self.services.clock.wait(self._stirred, delay_s)
            return False
        if self._orphans and not self.draining:
            await self.services.clock.wait(self._stirred, self.services.times.poll_s)
            return False
        if rest.why == "running":
            return await self._release(now)  # by the journal it runs here, and it does not: for the next epoch to judge
        if not self.draining and not self._may_leave():
            linger_s = self.services.times.linger_s
            self.rests = True
            stirred = await self.services.clock.wait(
                self._stirred, linger_s if delay_s is None else min(delay_s, linger_s)
            )
            self.rests = False
            if (stirred and not self._may_leave()) or (wake_at is not None and self.services.clock.now() >= wake_at):
                return False
            if rest.why == "held" and not await still_held(self.services.database.controls, self.state):
                self._held_until = 0
                return False
        return await self._release(wake_at)

    def _may_leave(self) -> bool:
        return self.leaves and not self.followed.stirs

    async def _release(self, wake_at: int | None) -> bool:
        if self.state.pause is not None:
            # A raise between the refusal and the pause found nobody waiting, and room that is made tells nobody.
            end = await end_of_pause(self.services.database.controls, self.state, self.services.clock.now())
            if isinstance(end, BudgetRaised):
                self._facts.append(Outcome(end))
                return False
            wake_at = earliest(wake_at, end)
        try:
            await self.services.database.store.release(self.lease, seen=self.state.head, wake_at=wake_at)
        except Fenced:
            raise
        except Conflict:
            self.followed.nudge()
            return False
        return True

    def _reached(self) -> None:
        if self._failures:
            self._failures = 0
            self.services.outage.worked(self.lease.session, self.services.clock.now())

    async def _wait_for_store(self, error: StoreError) -> None:
        """The database is away: keep the facts, read the journal again when it is back, never give up the outcome."""
        self._failures += 1
        times = self.services.times
        delay_s = min(times.retry_cap_s, times.retry_base_s * 2 ** min(self._failures, 10))
        self.services.outage.failed(self.lease.session, error, self.services.clock.now())
        self._reload()
        await self.services.clock.sleep(delay_s * self.services.dice.uniform(0.5, 1.0))

    def _reload(self) -> None:
        """Forget everything that was folded provisionally; the next round reads the journal."""
        self.followed.forget()
        self._orphans = True


def _model_runs(s: Session) -> bool:
    return s.turn is not None and s.turn.model is not None and s.turn.model.running


def _budget_reached(error: BudgetExceeded) -> BudgetReached:
    unit = "tokens" if error.unit == "tokens" else "usd_micros"
    reason = "" if error.needed else error.message
    return BudgetReached(error.scope, unit, error.limit, error.used, error.needed, reason)
