"""The laws, whatever happens at once: people, machines, failures and crashes in every order Hypothesis can think of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from audit import check_all, check_paired
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interleaving import CAREFUL, CLOSED, MENU, MOVES, OUTCOMES, VERSIONS, Move, World, play

from remanence.core.context import rebuild_prompt
from remanence.core.decide import Rest, decide
from remanence.core.session import evolve, fold
from remanence.core.state import Session
from remanence.events import ContextCompacted, ModelCalled, Recorded, SessionForked, TurnStarted
from remanence.spec import spec_digest
from remanence.testing.journals import heard, journal

SPECS = {spec_digest(spec): spec for spec in VERSIONS}

moves = st.one_of(
    st.tuples(st.sampled_from(("round", "perform", "queue")), st.integers(0, 3)),
    st.tuples(st.sampled_from(MOVES), st.integers(0, 5)),
)
histories = st.one_of(st.lists(moves, max_size=12), st.lists(moves, min_size=15, max_size=60))
worlds = st.builds(
    World,
    st.lists(st.integers(0, len(MENU) - 1), min_size=1, max_size=8),
    st.lists(st.integers(0, len(OUTCOMES) - 1), min_size=1, max_size=4),
    budget=st.one_of(st.none(), st.integers(500, 5_000)),
)


@settings(max_examples=5 * settings().max_examples)
@given(worlds, histories)
def test_the_laws_hold_whatever_happens_at_once(world: World, made: list[Move]) -> None:
    for move, number in made:
        world.move(move, number)
        assert world.state == fold(Session("s"), world.sim.records), "what the worker knows is what the journal says"
        _check_budget(world)
    world.settle()
    s = world.state
    assert (s.turn, s.queue, s.doubts) == (None, (), ()), "everything owed was done"
    assert decide(s, SPECS[s.version], now=world.sim.now, epoch=world.sim.epoch) == Rest("idle")
    check_all(world.sim.records, SPECS, world.sim.performed)
    _check_budget(world)


def _check_budget(world: World) -> None:
    book = world.sim.book
    for name, limit in book.limits.items():
        assert book.spent[name] + sum(book.reserved[name].values()) <= limit
        assert world.sim.billed <= limit, "the provider billed more than the budget"


@given(worlds, histories)
def test_prompts_are_paired_grow_by_their_end_and_can_be_proved(world: World, made: list[Move]) -> None:
    play(world, made)
    world.settle()
    records, prompts = world.sim.records, world.sim.prompts
    compacted = [r.position for r in records if isinstance(r.event, ContextCompacted)]
    for intent, messages in prompts:
        check_paired(messages)
        left = next(r.position for r in records if r.event == intent)
        spec = SPECS[fold(Session("s"), records[:left]).version]
        rebuilt = rebuild_prompt(records, intent, spec)
        assert (rebuilt.messages, rebuilt.exact) == (messages, True)
        assert intent.compacted_at == next((p for p in reversed(compacted) if p < left), 0)
        start = min(intent.window_from, intent.compacted_at or intent.window_from)
        assert rebuild_prompt(records[start - 1 :], intent, spec) == rebuilt
    for (before, shorter), (after, longer) in pairwise(prompts):
        moved = _window(before) != _window(after)
        if not moved and not any(_between(records, before, after, position) for position in compacted):
            assert longer[: len(shorter)] == shorter


def _window(called: ModelCalled) -> tuple[int, int, int, int]:
    return called.first_turn, called.window_from, called.skipped, called.cleared


def _between(records: list[Recorded], before: ModelCalled, after: ModelCalled, position: int) -> bool:
    places = [r.position for r in records if r.event in (before, after)]
    return min(places) < position < max(places)


@given(worlds, histories, st.integers(1, 200))
def test_a_fork_anywhere_folds_rests_and_goes_on(world: World, made: list[Move], cut: int) -> None:
    play(world, made)
    records = tuple(world.sim.records)
    position = cut % len(records) + 1
    forked = journal(SessionForked("s", position), heard("and now?"), session="f", after=records[:position])
    s = fold(Session("f"), (*records[:position], *forked))
    assert (s.turn, s.doubts, s.frozen, s.pause) == (None, (), None, None)
    assert [queued.position for queued in s.queue] == [position + 2]
    turn = TurnStarted(s.turns + 1, (position + 2,))
    follows = decide(s, SPECS[s.version], now=world.sim.now, epoch=1)
    assert getattr(follows, "event", None) == turn
    started = journal(turn, session="f", after=forked)
    window = evolve(s, started[0]).window
    intent = ModelCalled("model_x", s.turns + 1, "m", window.first_turn, window.from_position, "", window.skipped)
    prompt = rebuild_prompt((*records[:position], *forked, *started), intent).messages
    check_paired(prompt)
    assert prompt[-1].parts == heard("and now?").parts


@given(worlds, histories)
def test_a_worker_that_dies_at_every_step_leaves_the_same_session(world: World, made: list[Move]) -> None:
    """After a death the next worker sees exactly what anybody may read, and decides from that alone."""
    for move, number in made:
        world.move(move, number)
        seen = world.state
        world.sim.crash()
        assert world.sim.state == seen
    world.settle()
    check_all(world.sim.records, SPECS, world.sim.performed)


# --- particular races -------------------------------------------------------------------------------------------------

PAY_BIG, PAY_SMALL, POST, WIRE, THREE, DONE = 3, 2, 4, 5, 6, 0


def test_an_approval_survives_every_death_before_its_effect() -> None:
    for deaths in range(5):
        world = play(World([PAY_BIG, DONE], [0]), [("queue", 0), ("round", 0), ("perform", 0), ("round", 0)])
        for _ in range(deaths):
            world.move("crash", 0)
        world.move("approve", 0)
        for _ in range(deaths):
            world.move("crash", 0)
        world.settle()
        assert [p.approved_by for p in world.sim.performed] == [("grace",)]
        check_all(world.sim.records, SPECS, world.sim.performed)


@pytest.mark.parametrize("version", [1, 2])
def test_an_approval_does_not_outlive_its_policy(version: int) -> None:
    begun: list[Move] = [("queue", 0), ("round", 0), ("perform", 0), ("round", 0), ("approve", 0), ("upgrade", version)]
    world = play(World([PAY_BIG, DONE], [0]), begun)
    world.sim.round()
    assert world.sim.performed == []
    call = world.state.call("call_1_1_1")
    assert (call.state if call else None) == {1: "asked", 2: None}[version]
    assert VERSIONS[version] is (CAREFUL, CLOSED)[version - 1]


def test_an_effect_that_was_lost_with_its_worker_is_not_repeated_for_never() -> None:
    begun: list[Move] = [("queue", 0), ("round", 0), ("perform", 0), ("round", 0), ("happen", 0), ("crash", 0)]
    world = play(World([PAY_SMALL, DONE], [0]), begun)
    world.sim.round()
    assert [d.effect_key for d in world.state.doubts] == ["s:1:call_1_1_1"]
    for _ in range(5):
        world.move("crash", 0)
        world.move("round", 0)
    assert len(world.sim.performed) == 1
    assert [d.effect_key for d in world.state.doubts] == ["s:1:call_1_1_1"]


@pytest.mark.parametrize("happened", [True, False])
def test_a_tool_that_can_tell_settles_its_own_doubt(happened: bool) -> None:
    begun: list[Move] = [("queue", 0), ("round", 0), ("perform", 0), ("round", 0)]
    world = play(World([WIRE, DONE], [0]), begun)
    if happened:
        world.move("happen", 0)
    world.move("crash", 0)
    world.settle()
    assert len(world.sim.performed) == 1
    check_all(world.sim.records, SPECS, world.sim.performed)


def test_a_keyed_effect_runs_again_under_its_key() -> None:
    begun: list[Move] = [("queue", 0), ("round", 0), ("perform", 0), ("round", 0), ("happen", 0), ("crash", 0)]
    world = play(World([POST, DONE], [0]), begun)
    world.settle()
    assert [(p.effect_key, p.attempt) for p in world.sim.performed] == [
        ("s:1:call_1_1_1", 1),
        ("s:1:call_1_1_1", 2),
    ]


def test_a_write_nobody_heard_of_starts_its_effects_once() -> None:
    begun: list[Move] = [("queue", 0), ("round", 0), ("perform", 0), ("unheard", 0)]
    world = play(World([THREE, DONE], [0]), begun)
    world.settle()
    assert [p.tool for p in world.sim.performed] == ["look", "post", "pay"]


@given(st.lists(st.sampled_from(("queue", "steer", "interrupt")), min_size=1, max_size=6), st.data())
def test_no_input_is_lost_and_none_waits_behind_a_later_one(said: list[str], data: st.DataObject) -> None:
    world = World([data.draw(st.integers(0, 5)), DONE], [0])
    for if_busy in said:
        world.move(if_busy, 0)
        for _ in range(data.draw(st.integers(0, 3))):
            world.move(data.draw(st.sampled_from(("round", "perform", "crash"))), 0)
    world.settle()
    check_all(world.sim.records, SPECS, world.sim.performed)
    heard_words = [m.parts for m in world.sim.prompts[-1][1] if m.role == "user"]
    assume(world.sim.prompts[-1][0].first_turn == 1)
    assert len(heard_words) == len(said), "the model has heard everything that was said"
