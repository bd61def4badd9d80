"""Rounds of the loop: how many writes a turn costs, that every round ends, what is dispatched and what is not."""

from __future__ import annotations

import msgspec
import pytest
from any_journal import any_journals
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import ToolCall, Usage
from remanence.core.context import Transcript
from remanence.core.decide import CallModel, Rest, RunTool, decide
from remanence.core.session import evolve, fold
from remanence.core.state import Session, said
from remanence.errors import ModelError
from remanence.events import (
    BudgetReached,
    Event,
    ModelCalled,
    ModelFailed,
    Recorded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnStarted,
)
from remanence.ports import Lease, ModelReply, ModelRequest, OnDelta
from remanence.runtime.plan import Ground, Outcome, again, make_plan
from remanence.spec import AgentSpec, AllowRule, ToolSpec
from remanence.testing.journals import NOW, Script, called, dialogue, heard, journal, opened, replied, simulate, wants

SPEC = AgentSpec(
    "a",
    "scripted",
    tools=(ToolSpec("look", replay="safe"), ToolSpec("post", replay="keyed"), ToolSpec("pay"), ToolSpec("page")),
    rules=(AllowRule("*"),),
)


class Priced:
    """`ports.Model` that writes a cache at a quarter more, and knows no price of `unknown`."""

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        if model == "unknown":
            return None
        return 4 * usage.total_tokens + usage.cache_write_tokens

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        raise ModelError("not here", kind="invalid_request")


def ground(text: Transcript, spec: AgentSpec = SPEC, *, epoch: int = 1, may_start: bool = True) -> Ground:
    return Ground(spec, text, Priced(), Lease("s", f"worker-{epoch}", epoch, NOW + 60_000_000), may_start)


def stand(records: tuple[Recorded, ...]) -> tuple[Session, Transcript]:
    text = Transcript()
    for record in records:
        text.add(record)
    return fold(Session("s"), records), text


# --- what a turn costs ------------------------------------------------------------------------------------------------


def test_a_turn_with_one_tool_call_is_four_writes_after_its_input() -> None:
    script = Script(dialogue([[wants("pay", cents=1)], ["done"]]), inputs=(heard("pay"),))
    writes = simulate(SPEC, script).writes
    assert [[type(event).__name__ for event in write] for write in writes] == [
        ["TurnStarted", "ModelCalled"],
        ["ModelReplied", "CallJudged", "ToolStarted"],
        ["ToolReturned", "ModelCalled"],
        ["ModelReplied", "TurnEnded"],
    ]


def test_tools_of_one_reply_start_side_by_side_in_one_write() -> None:
    three = [wants("look"), wants("post"), wants("pay")]
    writes = simulate(SPEC, Script(dialogue([three, ["done"]]), inputs=(heard("go"),))).writes
    assert [sum(isinstance(event, ToolStarted) for event in write) for write in writes] == [0, 3, 0, 0, 0, 0]


def test_the_next_turn_begins_with_the_write_that_ends_the_last() -> None:
    script = Script(dialogue(["one"], ["two"]), inputs=(heard("a"),), person=lambda s: ())
    simulation = simulate(SPEC, script)
    assert [len(write) for write in simulation.writes] == [2, 2]
    records = journal(opened(SPEC), heard("a"), TurnStarted(1, (2,)), called("model_1_1"), heard("b"))
    s, text = stand(records)
    plan = make_plan(s, (Outcome(replied("model_1_1", "one"), 1),), ground(text), now=NOW)
    assert [type(event).__name__ for event in plan.events] == [
        "ModelReplied",
        "TurnEnded",
        "TurnStarted",
        "ModelCalled",
    ]


# --- every round ends -------------------------------------------------------------------------------------------------


def most_notes(s: Session) -> int:
    """How many facts can follow from a state before it rests: each is paid for by a call, an input or the turn."""
    calls = len(s.turn.calls) if s.turn else 0
    return 6 * calls + 4 * len(s.queue) + 4


@given(any_journals(size_max=40), st.integers(0, 4), st.integers(0, 50))
def test_every_round_of_any_journal_ends_and_is_a_fixed_point(
    records: tuple[Recorded, ...], epoch: int, later: int
) -> None:
    s, text = stand(records)
    now = NOW + later
    plan = make_plan(s, (), ground(text, epoch=epoch), now=now)
    assert len(plan.events) <= most_notes(s)
    assert isinstance(decide(plan.state, SPEC, now=now, epoch=epoch), Rest)
    once_more = make_plan(plan.state, (), ground(text, epoch=epoch), now=now)
    assert (once_more.events, once_more.dispatches, once_more.rest) == ((), (), plan.rest)
    again_folded = fold(s, journal_of(plan.events, s, now=now, epoch=epoch))
    assert again_folded == plan.state, "what a plan says is what its events fold to"


def journal_of(events: tuple[Event, ...], s: Session, *, now: int, epoch: int) -> tuple[Recorded, ...]:
    return tuple(
        Recorded(s.id, s.head + i, now, epoch, f"worker-{epoch}", event) for i, event in enumerate(events, start=1)
    )


@given(any_journals(size_max=40), st.integers(0, 4))
def test_a_draining_worker_writes_facts_and_starts_nothing(records: tuple[Recorded, ...], epoch: int) -> None:
    s, text = stand(records)
    plan = make_plan(s, (), ground(text, epoch=epoch, may_start=False), now=NOW)
    assert not plan.dispatches
    assert not any(isinstance(event, ModelCalled | ToolStarted) for event in plan.events)
    follows = decide(plan.state, SPEC, now=NOW, epoch=epoch)
    assert (plan.rest.why == "held") == isinstance(follows, CallModel | RunTool)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def a_running_call(tool: str = "post") -> tuple[Session, Transcript, ToolStarted]:
    records = journal(opened(SPEC), heard("go"), TurnStarted(1, (2,)), called("model_1_1"))
    s, text = stand((*records, *journal(replied("model_1_1", wants(tool)), after=records)))
    plan = make_plan(s, (), ground(text), now=NOW)
    started = plan.dispatches[0].intent
    assert isinstance(started, ToolStarted)
    return plan.state, text, started


def test_an_outcome_that_was_journaled_already_is_not_written_twice() -> None:
    s, text, started = a_running_call()
    outcome = Outcome(ToolReturned(started.call, said("posted")), 1)
    first = make_plan(s, (outcome,), ground(text), now=NOW)
    assert first.events[0] == outcome.event
    second = make_plan(first.state, (outcome,), ground(text), now=NOW)
    assert (second.events, second.facts) == ((), 1)


def test_what_became_of_one_attempt_does_not_pass_for_the_next() -> None:
    s, text, started = a_running_call()
    lost = Outcome(ToolLost(started.call, started.effect_key, started.tool, "no result in time"), 1)
    plan = make_plan(s, (lost,), ground(text), now=NOW)
    assert [type(event).__name__ for event in plan.events] == ["ToolLost", "ToolStarted"]
    assert make_plan(plan.state, (lost,), ground(text), now=NOW).events == ()
    later = make_plan(plan.state, (msgspec.structs.replace(lost, attempt=2),), ground(text), now=NOW)
    assert [type(event).__name__ for event in later.events] == ["ToolLost", "ToolStarted"]


def test_what_a_tool_says_of_one_attempt_does_not_settle_the_doubt_about_the_next() -> None:
    s, text, started = a_running_call("pay")
    lost = Outcome(ToolLost(started.call, started.effect_key, started.tool, "no result in time"), 1)
    s = make_plan(s, (lost,), ground(text), now=NOW).state
    stale = Outcome(ToolResolved(started.call, "run_again", "reconcile"), 1)
    s = make_plan(s, (stale,), ground(text), now=NOW).state
    s = make_plan(s, (msgspec.structs.replace(lost, attempt=2),), ground(text), now=NOW).state
    assert make_plan(s, (stale,), ground(text), now=NOW).events == ()
    current = msgspec.structs.replace(stale, attempt=2)
    plan = make_plan(s, (current,), ground(text), now=NOW)
    assert [type(event).__name__ for event in plan.events] == ["ToolResolved", "ToolStarted"]


def test_a_failure_of_the_model_counts_once() -> None:
    records = journal(opened(SPEC), heard("go"), TurnStarted(1, (2,)))
    s, text = stand(records)
    s = make_plan(s, (), ground(text), now=NOW).state
    failed = Outcome(ModelFailed("model_1_1", "server", "down", retry_at=NOW), 1)
    plan = make_plan(s, (failed,), ground(text), now=NOW)
    assert [type(event).__name__ for event in plan.events] == ["ModelFailed", "ModelCalled"]
    assert make_plan(plan.state, (failed,), ground(text), now=NOW).events == ()


def test_a_budget_that_was_reached_is_noted_once() -> None:
    s, text = stand(journal(opened(SPEC), heard("go")))
    reached = Outcome(BudgetReached("session:s", "tokens", 10, 5, 20))
    plan = make_plan(s, (reached, reached), ground(text), now=NOW)
    assert [type(event).__name__ for event in plan.events] == ["BudgetReached", "TurnStarted"]
    assert plan.rest == Rest("budget")


# --- model calls ------------------------------------------------------------------------------------------------------


def test_a_call_nobody_dispatched_is_dispatched_as_it_was_journaled() -> None:
    s, text = stand(journal(opened(SPEC), heard("go")))
    plan = make_plan(s, (), ground(text), now=NOW)
    state, fresh = plan.state, Transcript()
    for record in (*journal(opened(SPEC), heard("go")), *journal_of(plan.events, s, now=NOW, epoch=1)):
        fresh.add(record)
    assert state.turn is not None
    assert state.turn.model is not None
    assert again(state, SPEC, fresh, state.turn.model) == plan.dispatches[0]


def test_money_is_set_aside_at_the_dearest_price() -> None:
    s, text = stand(journal(opened(SPEC), heard("go")))
    (charge,) = make_plan(s, (), ground(text), now=NOW).charges
    tokens = charge.tokens - SPEC.limits.output_tokens
    assert charge.usd_micros == 4 * charge.tokens + tokens
    unknown = msgspec.structs.replace(SPEC, model="unknown")
    s, text = stand(journal(opened(unknown), heard("go")))
    plan = make_plan(s, (), ground(text, unknown), now=NOW)
    assert (plan.charges[0].usd_micros, plan.unpriced) == (0, True)


def test_an_outcome_settles_what_its_intent_set_aside() -> None:
    s, text = stand(journal(opened(SPEC), heard("go")))
    plan = make_plan(s, (), ground(text), now=NOW)
    (reserve,) = plan.charges
    outcome = Outcome(replied("model_1_1", "hi", usage=Usage(10, 5), cost=7), 1)
    (settle,) = make_plan(plan.state, (outcome,), ground(text), now=NOW).charges
    assert (reserve.kind, settle.kind, settle.key) == ("reserve", "settle", reserve.key)
    assert (settle.usd_micros, settle.tokens) == (7, 15)
    lost = make_plan(plan.state, (), ground(text, epoch=2), now=NOW)
    assert [charge.kind for charge in lost.charges] == ["settle", "reserve"]
    assert (lost.charges[0].usd_micros, lost.charges[0].tokens) == (reserve.usd_micros, reserve.tokens)
    assert lost.charges[1].key != reserve.key


@pytest.mark.parametrize("epoch", [1, 2])
def test_records_of_a_plan_stand_where_the_write_will_put_them(epoch: int) -> None:
    s, text = stand(journal(opened(SPEC), heard("go")))
    plan = make_plan(s, (), ground(text, epoch=epoch), now=NOW + 5)
    assert (plan.state.head, plan.state.at, plan.state.last_effect) == (4, NOW + 5, 4)
    state = s
    for record in journal_of(plan.events, s, now=NOW + 5, epoch=epoch):
        state = evolve(state, record)
    assert state == plan.state


def test_only_calls_that_are_ours_are_dispatched() -> None:
    spec = msgspec.structs.replace(SPEC, tools=(ToolSpec("page", kind="client"),))
    records = journal(opened(spec), heard("go"), TurnStarted(1, (2,)), called("model_1_1"))
    s, text = stand((*records, *journal(replied("model_1_1", ToolCall("c", "page", "{}")), after=records)))
    plan = make_plan(s, (), ground(text, spec), now=NOW)
    assert isinstance(plan.events[-1], ToolStarted)
    assert (plan.dispatches, plan.rest) == ((), Rest("waiting"))
