"""A journal as lines: every kind of event says something, and nothing plays tricks on the terminal."""

from __future__ import annotations

import typing

import pytest

from remanence.cli.lines import Lines, call_words, question_words
from remanence.cli.output import clean, moment, shortened, usd
from remanence.content import Text, ToolCall, Usage
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

AT = 1_800_000_000_000_000
REPLY = ModelReplied(
    "model_1_1",
    (Text("One moment."), ToolCall("c1", "refund", '{"order":"42","cents":900}')),
    Usage(120, 30),
    1_250,
)
LINES: list[tuple[Event, str]] = [
    (SessionOpened("shop", "a" * 64, "p", user="ada", title="Order 42"), "shop@aaaaaaaaaaaa for ada: Order 42"),
    (SessionForked("s0", 7), "from s0#7"),
    (SessionUpgraded("b" * 64, "p", "ada"), "to bbbbbbbbbbbb by ada"),
    (SessionAnnotated({"order": "42"}, by="ada"), "order=42"),
    (SessionDeleted("ada", "asked to"), "by ada: asked to"),
    (SessionFrozen("ada", "too many"), "by ada: too many"),
    (SessionThawed("ada"), "by ada"),
    (InputReceived("in1", (Text("Order 42\narrived"),), "ada"), 'ada: "Order 42 arrived"'),
    (InputReceived("in2", (Text("stop"),), "ada", "interrupt"), 'ada: "stop"  (interrupt)'),
    (InputReceived("in3", (Text("blue"),), "ada", answers="c1"), 'ada: "blue"  (answers c1)'),
    (TurnStarted(1, (2, 3)), "turn 1, input #2, #3"),
    (InputJoined(1, 4), "input #4 joins turn 1"),
    (CancelAsked("ada", "wrong order"), "by ada: wrong order"),
    (TurnEnded(1, "failed", "no model", in_doubt=("k",)), "turn 1 failed: no model; 1 in doubt"),
    (ModelCalled("m", 1, "openai:x", 1, 2, "d", attempt=2), "openai:x, attempt 2"),
    (REPLY, '"One moment."  refund(order="42", cents=900)  [120 in, 30 out, $0.00125]'),
    (ModelReplied("m", (Text("Yes."),)), '"Yes."  [0 in, 0 out, no price]'),
    (ModelFailed("m", "rate_limited", "too fast"), "rate_limited: too fast"),
    (CallJudged("c1", "ask", "d", "p", "cents > 5000"), 'refund(order="42", cents=900)  ask: cents > 5000'),
    (ApprovalGiven("c1", "deny", "ada", "d", "p", "no"), 'refund(order="42", cents=900)  denied by ada: no'),
    (ApprovalExpired("c1"), 'refund(order="42", cents=900)  the time for it ran out'),
    (QuestionAsked("c9", "Which?", ("a", "b")), 'c9  "Which?" [a | b]'),
    (ToolStarted("c1", "refund", "s:1:c1", "never"), 'refund(order="42", cents=900)  key=s:1:c1'),
    (ToolReturned("c1", (Text("done"),), size=70_000), 'refund(order="42", cents=900)  -> done (cut, 70,000 bytes)'),
    (ToolLost("c1", "s:1:c1", "refund", "died"), 'refund(order="42", cents=900)  IN DOUBT: died  key=s:1:c1'),
    (ToolResolved("c1", "run_again", "ada"), 'refund(order="42", cents=900)  run again, says ada'),
    (TimerSet("c1", AT), f'refund(order="42", cents=900)  until {moment(AT)}'),
    (TimerFired("c1"), 'refund(order="42", cents=900)  the time has come'),
    (
        MemoryRecalled(1, (Recalled("m1", 1, "s", 4, why=("words: blue", "ada said it")), Recalled("m2", 1, "s", 5))),
        "recalled: m1 because words: blue, ada said it; m2 because it fits",
    ),
    (MemoryRecalled(1, note="the memory could not be read"), "nothing: the memory could not be read"),
    (BlocksShown((Recalled("m3", 2, "s", 6, "block"),)), "blocks: m3"),
    (CompactionBegun("compact_1", "scripted", 3, 1, 1, "d"), "turns 1 to 3, by scripted"),
    (CompactionFailed("compact_1", "timeout", "no reply"), "timeout: no reply"),
    (ContextCompacted(3, (Text("so far"),)), 'turns 1 to 3: "so far"'),
    (MemoryKept("user:ada", "m1", "likes blue"), 'user:ada: "likes blue"'),
    (MemoryForgotten("user:ada", "m1", "ada"), "user:ada: m1, by ada"),
    (BudgetReached("agent:shop", "usd_micros", 100, 90, 20), "agent:shop: $0.00009 of $0.0001 used, $0.00002 needed"),
    (BudgetReached("agent:shop", "usd_micros", 100, 0, 0, "no price is known"), "agent:shop: no price is known"),
    (BudgetRaised("agent:shop", "tokens", 5_000, "ada"), "agent:shop: 5,000 tokens now, by ada"),
    (Redacted(4, "ada", "asked to"), "#4 erased, by ada: asked to"),
]


def test_every_kind_of_event_has_its_line() -> None:
    assert {type(event) for event, _ in LINES} == set(KINDS.values()) == set(typing.get_args(Event))
    lines = Lines()
    lines.line(Recorded("s", 1, AT, 0, "ada", REPLY))
    for event, words in LINES:
        assert lines.words(event) == words


def test_a_line_names_position_time_and_kind() -> None:
    line = Lines().line(Recorded("s", 12, AT, 0, "ada", TurnStarted(1, (2,))))
    assert line.startswith("#12   ")
    assert line.endswith("  TurnStarted       turn 1, input #2")
    assert "(erased)" in Lines().line(Recorded("s", 12, AT, 0, "ada", TurnStarted(1, (2,)), redacted=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "f()"),
        ('{"a": [1, {"b": null}], "c": true}', 'f(a=[1, {"b": null}], c=true)'),
        ("not json", "f(not json)"),
        ("[1]", "f([1])"),
        ('{"note": "' + "x" * 60 + '"}', 'f(note="' + "x" * 38 + '…")'),
        ('{"a": "\\u001b[2Jhidden"}', 'f(a="\\u001b[2Jhidden")'),
    ],
)
def test_a_call_is_written_as_a_call(arguments: str, words: str) -> None:
    assert call_words("f", arguments) == words


def test_a_question_is_asked_as_it_was() -> None:
    assert question_words("ask_human", '{"question": "Which one?", "options": ["a", "b"]}') == "Which one? [a | b]"
    assert question_words("ask_human", "{}") == "ask_human()"


def test_control_and_reordering_characters_are_shown() -> None:
    assert clean("a\x1b[31mb\x07\x9bc\u202ed\n\te") == "a\\x1b[31mb\\x07\\x9bc\\u202ed\n\te"
    assert clean("Größe 東京 🙂") == "Größe 東京 🙂"
    assert shortened("a\n b\x1b", 10) == "a b\\x1b"


@pytest.mark.parametrize(
    ("micros", "words"),
    [(0, "$0.00"), (1, "$0.000001"), (1_250_000, "$1.25"), (-500_000, "-$0.50"), (1_234_000_000, "$1,234.00")],
)
def test_money(micros: int, words: str) -> None:
    assert usd(micros) == words
