"""The window: paired whatever the journal, whole turns newest first, a prefix that only grows, provable afterwards."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from any_journal import any_journals
from audit import check_paired
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Image, Message, Text, ToolCall, ToolResult, text_of
from remanence.core.context import Transcript, prompt_of, rebuild_prompt
from remanence.core.session import evolve, fold
from remanence.core.state import Session
from remanence.core.tokens import message_tokens
from remanence.events import (
    ContextCompacted,
    Event,
    InputJoined,
    InputReceived,
    ModelCalled,
    Recorded,
    Redacted,
    SessionForked,
    TurnEnded,
    TurnStarted,
    skeleton,
)
from remanence.spec import AgentSpec, Limits, ToolSpec
from remanence.testing.journals import called, heard, journal, replied, returned, wants

SPEC = AgentSpec("a", "scripted", instructions="Help.", tools=(ToolSpec("look", replay="safe"),))


def limited(tokens: int) -> AgentSpec:
    return msgspec.structs.replace(SPEC, limits=Limits(window_tokens=tokens))


def transcript(records: tuple[Recorded, ...]) -> Transcript:
    text = Transcript()
    for record in records:
        text.add(record)
    return text


@given(any_journals(size_max=50), st.integers(0, 500))
def test_no_prompt_of_any_journal_holds_an_unpaired_call(records: tuple[Recorded, ...], tokens: int) -> None:
    """Asked after every record, also when calls are open and no decision would ever ask."""
    s, text, spec = Session("s"), Transcript(), limited(tokens)
    for record in records:
        s = evolve(s, record)
        text.add(record)
        check_paired(prompt_of(text, s, spec).messages)


def test_a_reply_that_calls_anew_what_is_open_closes_it_first() -> None:
    again = replied("given_1_1", wants("look"))
    records = journal(heard("hello"), TurnStarted(1, (1,)), again, again, SessionForked("other", 1))
    s, text, spec = fold(Session("s"), records), transcript(records), limited(500)
    said = prompt_of(text, s, spec).messages
    check_paired(said)
    assert [message.role for message in said] == ["user", "assistant", "tool", "assistant", "tool"]


# --- conversations that make sense ------------------------------------------------------------------------------------

Turn = tuple[int, list[tuple[int, int]], int]
"""Length of the input; for each step its number of calls and the length of a result; length of the last reply."""

turns = st.lists(
    st.tuples(
        st.integers(1, 400),
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 300)), max_size=4),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=12,
)


class Conversation:
    """A journal that grows as a worker would write it: every call journals the window it was made with."""

    def __init__(self, spec: AgentSpec) -> None:
        self.spec = spec
        self.state = Session("s")
        self.text = Transcript()
        self.records: tuple[Recorded, ...] = ()
        self.prompts: list[tuple[ModelCalled, tuple[Message, ...]]] = []

    def write(self, *events: Event) -> None:
        for record in journal(*events, after=self.records):
            self.records += (record,)
            self.state = evolve(self.state, record)
            self.text.add(record)

    def call(self, name: str) -> None:
        prompt = prompt_of(self.text, self.state, self.spec)
        window = prompt.window
        intent = msgspec.structs.replace(
            called(name),
            first_turn=window.first_turn,
            window_from=window.from_position,
            skipped=window.skipped,
            prompt=prompt.digest,
        )
        self.prompts.append((intent, prompt.messages))
        self.write(intent)
        self.text.forget_before(self.state.window.first_turn)

    def turn(self, shape: Turn) -> None:
        number = self.state.turns + 1
        self.write(heard("u" * shape[0], name=f"in_{number}"), TurnStarted(number, (self.state.head + 1,)))
        for step, (calls, size) in enumerate(shape[1], start=1):
            self.call(f"model_{number}_{step}")
            ids = [f"call_{number}_{step}_{i}" for i in range(1, calls + 1)]
            self.write(replied(f"model_{number}_{step}", *(wants("look", call, n=size) for call in ids)))
            self.write(*(returned(call, "r" * size) for call in reversed(ids)))
        last = f"model_{number}_{len(shape[1]) + 1}"
        self.call(last)
        self.write(replied(last, "a" * shape[2]), TurnEnded(number, "completed"))


def conversation(spec: AgentSpec, shapes: list[Turn], compacted: int = 0) -> Conversation:
    made = Conversation(spec)
    for number, shape in enumerate(shapes, start=1):
        made.turn(shape)
        if number == compacted:
            made.write(ContextCompacted(number - 1, (Text("what was said before"),)))
    return made


@given(turns, st.integers(20, 600), st.integers(0, 12))
def test_the_prefix_only_grows_between_cuts(shapes: list[Turn], tokens: int, compacted: int) -> None:
    made = conversation(limited(tokens), shapes, compacted)
    for (before, shorter), (after, longer) in pairwise(made.prompts):
        check_paired(longer)
        same = (before.first_turn, before.window_from, before.skipped) == (
            after.first_turn,
            after.window_from,
            after.skipped,
        )
        crossed = compacted > 0 and before.turn <= compacted < after.turn
        if same and not crossed:
            assert longer[: len(shorter)] == shorter
        assert after.first_turn >= before.first_turn


@given(turns, st.integers(20, 600), st.integers(0, 12))
def test_every_past_prompt_is_rebuilt_from_the_journal_and_proved(
    shapes: list[Turn], tokens: int, compacted: int
) -> None:
    made = conversation(limited(tokens), shapes, compacted)
    for intent, messages in made.prompts:
        whole = rebuild_prompt(made.records, intent)
        assert (whole.messages, whole.exact) == (messages, True)
        start = intent.window_from
        for record in made.records[: start - 1]:
            if isinstance(record.event, ContextCompacted):
                start = min(start, record.position)
        least = rebuild_prompt(made.records[start - 1 :], intent)
        assert (least.messages, least.exact) == (messages, True)


@given(turns, st.integers(20, 600))
def test_a_window_is_the_newest_whole_turns(shapes: list[Turn], tokens: int) -> None:
    """Under the limit everything since the last cut is there; a cut keeps as many whole turns as half of it holds."""
    spec = limited(tokens)
    made = Conversation(spec)
    for shape in shapes:
        seen = len(made.prompts)
        made.turn(shape)
        for intent, messages in made.prompts[seen:]:
            alone = intent.first_turn == intent.turn
            users = [m for m in messages if m.role == "user"]
            assert len(users) == intent.turn - intent.first_turn + 1, "a turn is whole, or not there"
            size = made.text.fixed_tokens(spec) + sum(message_tokens(m) for m in messages)
            assert size <= tokens or alone, "only the running turn may be over the budget"
            if intent.skipped:
                assert text_of(messages[0].parts) == "u" * shapes[intent.first_turn - 1][0], "the input is kept"


def test_the_oldest_steps_of_a_long_turn_are_left_out_whole() -> None:
    made = conversation(limited(100), [(10, [(2, 100)] * 6, 10)])
    intent, messages = made.prompts[-1]
    assert intent.skipped
    assert intent.skipped % 3 == 0
    roles = [message.role for message in messages]
    assert roles == ["user", *["assistant", "tool", "tool"] * ((len(roles) - 1) // 3)]


def test_a_window_that_was_cut_is_cut_again_only_when_it_is_full() -> None:
    made = conversation(limited(300), [(200, [], 200)] * 30)
    starts = [intent.first_turn for intent, _ in made.prompts]
    cuts = [after for before, after in pairwise(starts) if before != after]
    assert 5 <= len(cuts) <= 20
    assert all(after - before >= 1 for before, after in pairwise(cuts))


# --- particular things ------------------------------------------------------------------------------------------------


def test_a_fork_in_mid_step_closes_what_it_inherited() -> None:
    reply = replied("model_1_1", wants("look", "c1"), wants("look", "c2"))
    before = journal(heard("hi"), TurnStarted(1, (1,)), called("model_1_1"), reply, returned("c2", "two"))
    records = (*before, *journal(SessionForked("s", 5), heard("and now?"), TurnStarted(2, (7,)), after=before))
    s, text = fold(Session("f"), records), transcript(records)
    messages = prompt_of(text, s, SPEC).messages
    check_paired(messages)
    assert [m.role for m in messages] == ["user", "assistant", "tool", "tool", "user"]
    results = {p.call: p for m in messages for p in m.parts if isinstance(p, ToolResult)}
    assert text_of(results["c2"].parts) == "two"
    assert (text_of(results["c1"].parts), results["c1"].error) == ("not carried over into this fork", True)


def test_a_fork_does_not_answer_what_was_queued_in_its_source() -> None:
    before = journal(heard("one"), TurnStarted(1, (1,)), heard("two"))
    records = (*before, *journal(SessionForked("s", 3), heard("three"), after=before))
    s = fold(Session("f"), records)
    assert [queued.position for queued in s.queue] == [5]
    s = fold(s, journal(TurnStarted(2, (5,)), after=records))
    text = transcript((*records, *journal(TurnStarted(2, (5,)), after=records)))
    assert [text_of(m.parts) for m in prompt_of(text, s, SPEC).messages] == ["one", "three"]


def test_an_answer_that_nobody_waits_for_is_heard_as_an_input() -> None:
    records = journal(heard("red", answers="call_9_9_9"), TurnStarted(1, (1,)))
    messages = prompt_of(transcript(records), fold(Session("s"), records), SPEC).messages
    assert [text_of(m.parts) for m in messages] == ["red"]


def test_steering_is_heard_between_steps() -> None:
    steps = (called("model_1_1"), replied("model_1_1", wants("look", "c1")), heard("left", if_busy="steer"))
    records = journal(heard("go"), TurnStarted(1, (1,)), *steps, returned("c1"), InputJoined(1, 5))
    messages = prompt_of(transcript(records), fold(Session("s"), records), SPEC).messages
    check_paired(messages)
    assert [m.role for m in messages] == ["user", "assistant", "tool", "user"]


def test_what_people_say_to_steer_a_long_turn_stays_in_its_window() -> None:
    made = Conversation(limited(100))
    made.write(heard("go"), TurnStarted(1, (1,)))
    for step in range(1, 8):
        made.call(f"model_1_{step}")
        call = f"call_1_{step}_1"
        made.write(replied(f"model_1_{step}", wants("look", call)), returned(call, "r" * 120))
        if step == 2:
            made.write(heard("never page the boss", if_busy="steer"), InputJoined(1, made.state.head + 1))
    intent, messages = made.prompts[-1]
    check_paired(messages)
    assert intent.skipped > 4
    assert [text_of(m.parts) for m in messages if m.role == "user"] == ["go", "never page the boss"]


def test_a_reply_that_says_nothing_is_left_out() -> None:
    records = journal(heard("go"), TurnStarted(1, (1,)), called("model_1_1"), replied("model_1_1"))
    assert len(prompt_of(transcript(records), fold(Session("s"), records), SPEC).messages) == 1


def test_answered_questions_do_not_pile_up() -> None:
    text = Transcript()
    for number in range(50):
        position = 1 + number * 3
        answer = Recorded("s", position, 0, 0, "ada", heard("yes", answers="c"))
        started = Recorded("s", position + 2, 0, 1, "w", TurnStarted(number + 1, (position + 1,)))
        for record in (answer, Recorded("s", position + 1, 0, 0, "ada", heard("next")), started):
            text.add(record)
    assert len(text._inputs) == 0


@pytest.mark.parametrize("size", [1_000, 4_000_000])
def test_a_picture_fills_the_window_by_what_it_shows_not_by_its_file(size: int) -> None:
    records = journal(heard("first"), TurnStarted(1, (1,)), called("model_1_1"), replied("model_1_1", "yes"))
    picture = InputReceived("in_2", (Image("image/png", data="x" * size),))
    records = (*records, *journal(TurnEnded(1, "completed"), picture, TurnStarted(2, (6,)), after=records))
    prompt = prompt_of(transcript(records), fold(Session("s"), records), limited(4_000))
    assert prompt.window.first_turn == 1
    assert 50_000 < prompt.input_tokens_bound < 60_000


def test_a_redaction_in_the_window_shows() -> None:
    made = conversation(SPEC, [(10, [(1, 5)], 5), (10, [], 5)])
    intent, messages = made.prompts[-1]
    erased = tuple(
        msgspec.structs.replace(r, event=skeleton(r.event), redacted=True) if r.position == 1 else r
        for r in (*made.records, *journal(Redacted(1, "grace"), after=made.records))
    )
    rebuilt = rebuild_prompt(erased, intent)
    assert not rebuilt.exact
    assert rebuilt.messages[0] == Message("user", (Text("[redacted]"),))
    assert rebuilt.messages[1:] == messages[1:]
    check_paired(rebuilt.messages)


def test_a_call_in_the_window_costs_what_was_added_not_its_length() -> None:
    """The hash runs on: a long window is not encoded again for each call."""
    made = conversation(SPEC, [(10, [], 10)] * 200)
    running = made.text._running
    made.turn((10, [], 10))
    assert made.text._running is running
    assert len(made.prompts[-1][1]) == 401
    assert any(isinstance(p, ToolCall) for m in made.prompts[-1][1] for p in m.parts) is False
