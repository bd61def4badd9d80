"""Journals of any events in any order: sense is not required. The fold, the window and the loop must not mind."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from remanence.content import File, Image, Part, Text, Thinking, ToolCall, Usage
from remanence.events import (
    KINDS,
    ApprovalExpired,
    ApprovalGiven,
    BlocksShown,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    CancelAsked,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    Event,
    InputJoined,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    MemoryRecalled,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recalled,
    Recorded,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import IfBusy, Replay
from remanence.testing.journals import NOW

CALLS = ("call_1_1_1", "call_1_1_2", "call_2_1_1")
TOOLS = ("look", "post", "pay", "page", "ask_human", "sleep_until", "unknown")

call_ids = st.sampled_from(CALLS)
tools = st.sampled_from(TOOLS)
turns = st.integers(1, 4)
positions = st.integers(1, 30)
moments = st.integers(NOW - 5, NOW + 100)
words = st.sampled_from(("", "a", "what was said", "é" * 40))
people = st.sampled_from(("ada", "grace", ""))
digests = st.sampled_from(("d1", "d2"))
arguments = st.sampled_from(("{}", '{"cents":10}', '{"seconds":5}', '{"question":"q"}', "{", '"text"'))
policies = st.sampled_from(("p1", "p2"))
scopes = st.sampled_from(("session:s", "user:ada"))
units = st.sampled_from(("usd_micros", "tokens"))
attempts = st.integers(1, 5)
amounts = st.integers(0, 1_000)

spoken: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, words),
    st.builds(Image, st.just("image/png"), data=words),
    st.builds(File, st.sampled_from(("text/plain", "application/pdf")), data=words),
)
texts = st.lists(spoken, max_size=2).map(tuple)


@st.composite
def replies(draw: st.DrawFn) -> tuple[Part, ...]:
    """Parts of a reply; the ids of its calls are different, as the runtime makes them."""
    ids = draw(st.lists(call_ids, unique=True, max_size=3))
    made: list[Part] = [ToolCall(call, draw(tools), draw(arguments)) for call in ids]
    return (*draw(texts), *draw(st.lists(st.builds(Thinking, words), max_size=1)), *made)


skips = st.integers(0, 4)
recollections = st.lists(
    st.builds(Recalled, st.just("mem_1"), st.integers(1, 2), st.just("s"), positions, untrusted=st.booleans()),
    max_size=2,
).map(tuple)
usages = st.builds(Usage, input_tokens=amounts, output_tokens=amounts)

_BUILDERS: dict[type[Event], st.SearchStrategy[Event]] = {
    SessionOpened: st.builds(SessionOpened, st.just("a"), digests, policies, user=people),
    SessionForked: st.builds(SessionForked, st.just("other"), positions),
    SessionUpgraded: st.builds(SessionUpgraded, digests, policies),
    SessionAnnotated: st.builds(SessionAnnotated, st.dictionaries(words, words, max_size=2)),
    SessionDeleted: st.builds(SessionDeleted, people, words),
    SessionFrozen: st.builds(SessionFrozen, people, words),
    SessionThawed: st.builds(SessionThawed, people),
    InputReceived: st.builds(
        InputReceived,
        words,
        texts,
        people,
        st.sampled_from(get_args(IfBusy)),
        st.one_of(st.none(), call_ids),
    ),
    TurnStarted: st.builds(TurnStarted, turns, st.lists(positions, min_size=1, max_size=3).map(tuple)),
    InputJoined: st.builds(InputJoined, turns, positions),
    CancelAsked: st.builds(CancelAsked, people, words, st.one_of(st.none(), turns)),
    TurnEnded: st.builds(TurnEnded, turns, st.sampled_from(("completed", "failed", "cancelled"))),
    ModelCalled: st.builds(
        ModelCalled,
        st.just("model_1_1"),
        turns,
        st.just("scripted"),
        turns,
        positions,
        st.just(""),
        skipped=skips,
        cleared=st.one_of(st.just(0), positions),
        attempt=attempts,
    ),
    ModelReplied: st.builds(ModelReplied, st.just("model_1_1"), replies(), usages, st.one_of(st.none(), amounts)),
    ModelFailed: st.builds(ModelFailed, st.just("model_1_1"), words, words, st.one_of(st.none(), moments)),
    CallJudged: st.builds(
        CallJudged,
        call_ids,
        st.sampled_from(("allow", "ask", "deny")),
        digests,
        policies,
        approvers=st.sampled_from(((), ("grace",))),
        needed=st.integers(1, 2),
        expires_at=st.one_of(st.none(), moments),
    ),
    ApprovalGiven: st.builds(
        ApprovalGiven,
        call_ids,
        st.sampled_from(("approve", "deny")),
        people,
        digests,
        policies,
        expires_at=st.one_of(st.none(), moments),
    ),
    ApprovalExpired: st.builds(ApprovalExpired, call_ids),
    QuestionAsked: st.builds(QuestionAsked, call_ids, words),
    ToolStarted: st.builds(
        ToolStarted,
        call_ids,
        tools,
        call_ids.map(lambda call: f"s:1:{call}"),
        st.sampled_from(get_args(Replay)),
        attempts,
        client=st.booleans(),
    ),
    ToolReturned: st.builds(ToolReturned, call_ids, texts, st.booleans(), st.booleans()),
    ToolLost: st.builds(ToolLost, call_ids, call_ids.map(lambda call: f"s:1:{call}"), tools, words),
    ToolResolved: st.builds(
        ToolResolved, call_ids, st.sampled_from(("happened", "run_again", "give_up")), people, texts
    ),
    MemoryRecalled: st.builds(MemoryRecalled, turns, recollections),
    BlocksShown: st.builds(BlocksShown, recollections),
    CompactionBegun: st.builds(
        CompactionBegun, st.just("compact_1"), st.just("scripted"), turns, turns, positions, st.just(""), skips
    ),
    CompactionFailed: st.builds(CompactionFailed, st.just("compact_1"), words, words, usages),
    ContextCompacted: st.builds(
        ContextCompacted, turns, texts, st.sampled_from(("", "compact_1")), skips, usages, st.one_of(st.none(), amounts)
    ),
    MemoryKept: st.builds(MemoryKept, st.just("m"), st.just("1"), words),
    MemoryForgotten: st.builds(MemoryForgotten, st.just("m"), st.just("1"), people),
    TimerSet: st.builds(TimerSet, call_ids, moments),
    TimerFired: st.builds(TimerFired, call_ids),
    BudgetReached: st.builds(BudgetReached, scopes, units, amounts, amounts, amounts),
    BudgetRaised: st.builds(BudgetRaised, scopes, units, amounts, people),
    Redacted: st.builds(Redacted, positions, people),
}
assert set(_BUILDERS) == set(KINDS.values()), "every kind of event must be drawn"

any_events: st.SearchStrategy[Event] = st.one_of(*_BUILDERS.values())
likely_events: st.SearchStrategy[Event] = st.one_of(
    any_events,
    *(_BUILDERS[kind] for kind in (CallJudged, ApprovalGiven, ToolStarted, ToolLost, ToolResolved, ModelReplied)),
)


@st.composite
def any_journals(draw: st.DrawFn, *, size_max: int = 30) -> tuple[Recorded, ...]:
    """Records of any events: a turn is often open and its calls are spoken of, because little means much without."""
    first: list[Event] = [SessionOpened("a", "d1", "p1")]
    if draw(st.booleans()):
        first += [InputReceived("in", (Text("hello"),)), TurnStarted(1, (2,))]
        first += [ModelReplied("model_1_1", draw(replies()))]
    events = first + draw(st.lists(likely_events, max_size=size_max))
    at, records = NOW, list[Recorded]()
    for position, event in enumerate(events, start=1):
        at += draw(st.integers(0, 2))
        records.append(Recorded("s", position, at, draw(st.integers(0, 2)), "w", event))
    return tuple(records)
