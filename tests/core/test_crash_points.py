"""One scenario with everything in it, struck at every point: before and after each write and each effect.

Parallel tools of all three kinds, an approval, a question, a timer, a budget that runs out, a tool that does not know
what became of its call, a turn that is steered: run once without faults, then once for every point and kind of fault,
then with many faults at random. Sessions must end as they would have, with nothing done twice and nothing lost.
"""

from __future__ import annotations

from collections import Counter

import pytest
from audit import check_all
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.builtins import ASK_HUMAN, SLEEP_UNTIL
from remanence.core.state import Doubt, Session, said, status_of
from remanence.events import BudgetRaised, Event, InputReceived, ToolLost, ToolResolved, ToolReturned, ToolStarted
from remanence.spec import AgentSpec, AllowRule, AskRule, Limits, ToolSpec, spec_digest
from remanence.testing.journals import Fault, Script, Simulation, approved, dialogue, heard, simulate, wants

SPEC = AgentSpec(
    "support",
    "scripted",
    tools=(
        ToolSpec("look", replay="safe"),
        ToolSpec("post", replay="keyed"),
        ToolSpec("pay"),
        ToolSpec("wire", reconciles=True),
        ASK_HUMAN,
        SLEEP_UNTIL,
    ),
    rules=(AllowRule("*"), AskRule("pay", "cents > 50", approvers=("grace",))),
    limits=Limits(model_attempts=100),
)
SPECS = {spec_digest(SPEC): SPEC}
TURNS = (
    [[wants("look"), wants("post", to="x"), wants("pay", cents=10)], ["first"]],
    [[wants("pay", cents=900), wants("look", n=2)], ["second"]],
    [[wants("ask_human", question="which?")], [wants("sleep_until", seconds=5), wants("wire", to="bank")], ["third"]],
    [["fourth"]],
)
INPUTS = tuple(heard(text, name=text) for text in ("one", "two", "three", "four"))


def tool(started: ToolStarted, arguments: str) -> Event:
    if started.tool == "wire" and started.attempt == 1:
        return ToolLost(started.call, started.effect_key, "wire", "no answer in time")
    return ToolReturned(started.call, said(f"{started.tool} did {arguments}"))


def reconcile(doubt: Doubt, happened: bool) -> ToolResolved | None:
    if doubt.tool != "wire":
        return None
    return ToolResolved(doubt.call, "happened" if happened else "run_again", "reconcile", said("the bank says so"))


def person(s: Session) -> list[Event]:
    """Somebody who answers whatever the session waits for, knowing nothing about crashes."""
    if s.pause is not None:
        return [BudgetRaised(s.pause.scope, s.pause.unit, 1_000_000, "grace")]
    if s.doubts:
        return [ToolResolved(s.doubts[0].call, "happened", "grace", said("it is in the books"))]
    for call in s.turn.calls if s.turn else ():
        if call.state == "asked":
            return [approved(s, call.call)]
        if call.state == "question":
            return [InputReceived("answer", said("the red one"), "ada", answers=call.call)]
    return []


def script(*, budget: int | None = None) -> Script:
    budgets = {} if budget is None else {("session:s", "tokens"): budget}
    return Script(dialogue(*TURNS), INPUTS, tool, reconcile, person, budgets)  # pyright: ignore[reportArgumentType]


def run(faults: dict[int, Fault] | None = None) -> Simulation:
    return simulate(SPEC, script(), faults=faults or {})


PLAIN = run()


def check(simulation: Simulation) -> None:
    """Nothing twice, nothing lost, everything ended."""
    check_all(simulation.records, SPECS, simulation.performed)
    s = simulation.folded()
    assert (s.turns, s.turn, s.queue, s.doubts, status_of(s)) == (4, None, (), (), "idle")
    happened = Counter(started.effect_key for started in simulation.performed if started.replay == "never")
    assert all(count == 1 for count in happened.values()), f"done twice: {happened}"
    assert effects_of(simulation) == effects_of(PLAIN), "the same effects, under the same keys"


def effects_of(simulation: Simulation) -> set[str]:
    return {r.event.effect_key for r in simulation.records if isinstance(r.event, ToolStarted)}


def test_the_scenario_without_faults() -> None:
    check(PLAIN)
    assert PLAIN.points > 60
    assert Counter(p.tool for p in PLAIN.performed) == {"look": 2, "post": 1, "pay": 2, "wire": 1}


@pytest.mark.parametrize("fault", ["crash", "refused", "unheard"])
def test_a_fault_at_every_point(fault: Fault) -> None:
    for point in range(1, PLAIN.points + 1):
        check(run({point: fault}))


def test_two_deaths_in_a_row_at_every_point() -> None:
    for point in range(1, PLAIN.points + 1):
        for later in range(1, 5):
            check(run({point: "crash", point + later: "crash"}))


faults = st.dictionaries(st.integers(1, 120), st.sampled_from(("crash", "crash", "refused", "unheard")), max_size=12)


@given(faults)
def test_any_number_of_faults(struck: dict[int, Fault]) -> None:
    check(run(struck))


@given(faults, st.integers(4_000, 40_000))
def test_no_fault_overshoots_a_budget(struck: dict[int, Fault], budget: int) -> None:
    simulation = simulate(SPEC, script(budget=budget), faults=struck)
    name = ("session:s", "tokens")
    assert simulation.book.spent[name] <= simulation.book.limits[name]
    assert simulation.billed <= simulation.book.spent[name]
    check_all(simulation.records, SPECS, simulation.performed)
