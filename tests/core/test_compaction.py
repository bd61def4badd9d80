"""Compaction: asked for before the window is full, beside the turn, survived at every point; nothing in use is lost."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import pytest
from audit import check_all, check_paired
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Message, Usage, text_of
from remanence.core.context import rebuild_prompt
from remanence.core.context.stubs import identifiers
from remanence.core.session import fold
from remanence.core.state import Session, said, status_of
from remanence.events import (
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    Event,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.spec import AgentSpec, AllowRule, Compaction, Limits, ToolSpec, spec_digest
from remanence.testing.journals import Fault, Script, Simulation, dialogue, heard, simulate, wants

Kind = TypeVar("Kind", bound=Event)

TURNS = 8


def spec_of(compaction: Compaction, *, tokens: int = 900) -> AgentSpec:
    return AgentSpec(
        "support",
        "scripted",
        instructions="Help with orders.",
        tools=(ToolSpec("find_order", replay="safe"), ToolSpec("refund")),
        rules=(AllowRule("*"),),
        limits=Limits(window_tokens=tokens, output_tokens=300, model_attempts=100, compaction=compaction),
    )


MODEL, RULE = spec_of("model"), spec_of("rule")
SPECS = {spec_digest(spec): spec for spec in (MODEL, RULE)}


def tool(started: ToolStarted, arguments: str) -> Event:
    turn = started.call.split("_")[1]
    return ToolReturned(started.call, said(f'{{"order":"A-{turn}77","customer":"cus_{turn}x9","note":"{"n" * 150}"}}'))


def person(s: Session) -> list[Event]:
    return [ToolResolved(s.doubts[0].call, "happened", "grace", said("it is in the books"))] if s.doubts else []


def script(**changes: object) -> Script:
    lines = [
        [
            [wants("find_order", order=f"A-{n}77")],
            [wants("refund", order=f"A-{max(1, n - 2)}77")],
            [f"Done with A-{n}77."],
        ]
        for n in range(1, TURNS + 1)
    ]
    inputs = tuple(
        heard(f"Look at A-{n}77, and A-{max(1, n - 2)}77 {'please ' * 10}", name=f"in_{n}") for n in range(1, TURNS + 1)
    )
    return Script(dialogue(*lines), inputs, tool, person=person, **changes)  # pyright: ignore[reportArgumentType]


def run(spec: AgentSpec, faults: dict[int, Fault] | None = None, **changes: object) -> Simulation:
    return simulate(spec, script(**changes), faults=faults or {})


def events(simulation: Simulation, kind: type[Kind]) -> list[Kind]:
    return [r.event for r in simulation.records if isinstance(r.event, kind)]


def check(simulation: Simulation) -> None:
    check_all(simulation.records, SPECS, simulation.performed)
    s = simulation.folded()
    assert (s.turns, s.turn, s.queue, s.doubts, status_of(s)) == (TURNS, None, (), (), "idle")
    assert s.compacting is None, "no compaction is left open"
    happened = Counter(started.effect_key for started in simulation.performed if started.replay == "never")
    assert all(count == 1 for count in happened.values()), f"done twice: {happened}"
    for intent, messages in simulation.prompts:
        check_paired(messages)
        spec = simulation.specs[s.version]
        rebuilt = rebuild_prompt(simulation.records, intent, spec)
        assert (rebuilt.messages, rebuilt.exact) == (messages, True)
    for _, messages in simulation.summaries:
        check_paired(messages)


def test_the_model_is_asked_before_the_window_is_full_and_its_summary_leads_the_next_prompts() -> None:
    simulation = run(MODEL)
    check(simulation)
    begun, landed = events(simulation, CompactionBegun), events(simulation, ContextCompacted)
    assert len(begun) >= 2
    assert [e.call for e in landed] == [e.call for e in begun], "every one of them landed; nothing was cut by rule"
    led = [intent for intent, messages in simulation.prompts if text_of(messages[0].parts).startswith("Summary")]
    assert len(led) > len(simulation.prompts) // 2
    ledger = simulation.folded().ledger
    assert ledger.model_calls == len(simulation.prompts) + len(begun), "a compaction is a model call on the bill"


def test_the_request_of_a_compaction_begins_with_the_prompt_of_the_last_call() -> None:
    """So the provider's cache serves it."""
    simulation = run(MODEL)
    assert any(begun.keep for begun, _ in simulation.summaries)
    for begun, messages in simulation.summaries:
        at = next(r.position for r in simulation.records if r.event == begun)
        last = [sent for intent, sent in simulation.prompts if _position(simulation, intent) < at][-1]
        shared = messages[:-1]
        assert len(shared) > 2
        assert last[: len(shared)] == shared
        assert all(name in text_of(messages[-1].parts) for name in begun.keep)


def _position(simulation: Simulation, intent: Event) -> int:
    return next(r.position for r in simulation.records if r.event == intent)


def test_without_a_model_the_window_is_cut_and_summarised_by_rule() -> None:
    simulation = run(RULE)
    check(simulation)
    landed = events(simulation, ContextCompacted)
    assert landed
    assert not events(simulation, CompactionBegun)
    assert all(e.call == "" for e in landed)
    for e in landed:
        assert len(text_of(e.summary).encode()) < 1_500, "a tenth of the budget, and what was asked"


@pytest.mark.parametrize("spec", [MODEL, RULE], ids=["model", "rule"])
def test_what_the_rest_refers_to_is_in_the_summary(spec: AgentSpec) -> None:
    """A name that the newest turns use, and that was said before them, is still in view after every compaction."""
    simulation = run(spec)
    for place, record in enumerate(simulation.records):
        if isinstance(record.event, ContextCompacted):
            after = next((m for i, m in simulation.prompts if _position(simulation, i) > record.position), None)
            if after is not None:
                shown = " ".join(text for message in after for text in _texts(message))
                earlier = fold(Session("s"), simulation.records[:place])
                assert f"A-{max(1, earlier.turns - 2)}77" in identifiers(shown)


def _texts(message: Message) -> list[str]:
    return [str(getattr(part, "text", "")) + str(getattr(part, "arguments", "")) for part in message.parts]


def test_a_summary_that_loses_an_identifier_in_use_is_thrown_away() -> None:
    def forgetful(begun: CompactionBegun, messages: tuple[Message, ...]) -> ContextCompacted:
        return ContextCompacted(begun.through_turn, said("They talked."), begun.call, begun.skipped, Usage(9, 1), 10)

    simulation = run(MODEL, summary=forgetful)
    check(simulation)
    failed = events(simulation, CompactionFailed)
    assert failed
    assert all(isinstance(e, CompactionFailed) and e.kind == "identifiers" and "A-" in e.message for e in failed)
    assert all(isinstance(e, ContextCompacted) and not e.call for e in events(simulation, ContextCompacted)), "by rule"
    assert simulation.folded().ledger.usd_micros >= 10 * len(failed), "it was paid for all the same"


def test_a_model_that_fails_twice_is_not_asked_again_before_the_next_cut() -> None:
    def down(begun: CompactionBegun, messages: tuple[Message, ...]) -> CompactionFailed:
        return CompactionFailed(begun.call, "server", "the provider is down")

    simulation = run(MODEL, summary=down)
    check(simulation)
    told = [e for r in simulation.records if isinstance(e := r.event, CompactionFailed | ContextCompacted)]
    in_a_row = 0
    for event in told:
        in_a_row = in_a_row + 1 if isinstance(event, CompactionFailed) else 0
        assert in_a_row <= 2
    assert any(isinstance(event, ContextCompacted) for event in told)


def test_a_budget_that_cannot_carry_a_summary_does_not_pause_the_session_for_it() -> None:
    plain = simulate(RULE, script(budgets={("session:s", "tokens"): 10_000_000}))
    spent = plain.book.spent[("session:s", "tokens")]
    simulation = simulate(MODEL, script(budgets={("session:s", "tokens"): spent + 6_000}))
    assert simulation.book.spent[("session:s", "tokens")] <= spent + 6_000


PLAIN = run(MODEL)


@pytest.mark.parametrize("fault", ["crash", "refused", "unheard"])
def test_a_fault_at_every_point(fault: Fault) -> None:
    for point in range(1, PLAIN.points + 1):
        simulation = run(MODEL, {point: fault})
        check(simulation)


faults = st.dictionaries(st.integers(1, 200), st.sampled_from(("crash", "crash", "refused", "unheard")), max_size=12)


@given(faults, st.sampled_from((MODEL, RULE)))
def test_any_number_of_faults(struck: dict[int, Fault], spec: AgentSpec) -> None:
    check(run(spec, struck))


@given(faults, st.integers(4_000, 60_000))
def test_no_fault_overshoots_a_budget(struck: dict[int, Fault], budget: int) -> None:
    simulation = simulate(MODEL, script(budgets={("session:s", "tokens"): budget}), faults=struck)
    name = ("session:s", "tokens")
    assert simulation.book.spent[name] <= budget
    assert simulation.billed <= simulation.book.spent[name]
