"""The pure parts of Chat Completions: pieces that come together, stops, and two pasts beside each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.api.chat.answer import Arguments, CallBegun, Piece, ReplyPieces, Stopper, Words
from remanence.commands.history import Branch, Continue, Journaled, reconcile
from remanence.content import Message, Text, ToolCall, ToolResult
from remanence.errors import ModelError

texts = st.text("ab \n", max_size=12)


def reply() -> ReplyPieces:
    return ReplyPieces(lambda place: f"call_{place}", lambda name: name != "hidden")


def told(pieces: list[Piece]) -> tuple[str, list[list[str]]]:
    text, calls = "", list[list[str]]()
    for piece in pieces:
        match piece:
            case Words(text=words):
                text += words
            case CallBegun(number=number, call=call, name=name):
                assert number == len(calls)
                calls.append([call, name, ""])
            case Arguments(number=number, text=more):
                calls[number][2] += more
            case _:
                raise AssertionError(piece)
    return text, calls


PARTS = (Text("ab"), ToolCall("x", "f", '{"a": 1}'), ToolCall("y", "hidden", "{}"), Text("c"), ToolCall("z", "g", "{}"))
DELTAS = [
    (0, "text", "a"),
    (0, "text", "b"),
    (1, "tool_name", "f"),
    (1, "tool_arguments", '{"a"'),
    (1, "tool_arguments", ": 1}"),
    (2, "tool_name", "hidden"),
    (2, "tool_arguments", "{}"),
    (3, "text", "c"),
    (4, "tool_name", "g"),
    (4, "tool_arguments", "{}"),
]


@pytest.mark.parametrize("seen", range(len(DELTAS) + 1))
def test_whatever_was_seen_of_a_reply_it_is_told_whole(seen: int) -> None:
    made = reply()
    pieces: list[Piece] = []
    for index, kind, text in DELTAS[:seen]:
        pieces += made.delta(index, kind, text)  # pyright: ignore[reportArgumentType] - the kinds are written above
    pieces += made.settle(PARTS)
    assert told(pieces) == ("ab\nc", [["call_1", "f", '{"a": 1}'], ["call_3", "g", "{}"]])


def test_another_attempt_may_say_the_same_and_go_on_but_not_something_else() -> None:
    for final, fine in (("abc", True), ("xyz", False)):
        made = reply()
        pieces = made.delta(0, "text", "ab")
        made.restart()
        assert made.delta(0, "text", final) == []
        if fine:
            assert told([*pieces, *made.settle((Text(final),))])[0] == final
        else:
            with pytest.raises(ModelError, match="void"):
                made.settle((Text(final),))


@given(st.lists(texts), st.lists(texts.filter(bool), min_size=1, max_size=3))
def test_a_stop_is_found_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    stopper = Stopper(tuple(stops))
    shown = "".join(stopper.feed(piece) for piece in pieces) + stopper.rest()
    # The first stop that is complete wins, as it does while a model writes.
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    if not ends:
        assert shown == whole
    else:
        assert not any(stop in shown for stop in stops)
        assert whole.startswith(shown)
        assert len(shown) in {start for _, start in ends}


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


turns = st.lists(st.tuples(texts.filter(str.strip), texts.filter(str.strip)), max_size=4)


@given(turns, turns, texts.filter(str.strip))
def test_a_past_is_continued_exactly_when_it_is_the_same(
    journal: list[tuple[str, str]], sent: list[tuple[str, str]], question: str
) -> None:
    ours = [message for asked, said in journal for message in (user(asked), assistant(said))]
    theirs = [message for asked, said in sent for message in (user(asked), assistant(said))]
    ends = tuple((2 * n, 10 * n) for n in range(1, len(journal) + 1))
    plan = reconcile(Journaled(tuple(ours), ends), [*theirs, user(question)], first=1)
    stripped = [[(a.strip(), b.strip()) for a, b in one] for one in (journal, sent)]
    if stripped[0] == stripped[1]:
        assert plan == Continue((), (Text(question),))
        return
    same = next((n for n, (a, b) in enumerate(zip(*stripped, strict=False)) if a != b), min(len(journal), len(sent)))
    assert plan == Branch(10 * same if same else 1, tuple([*theirs, user(question)][2 * same :]))


def test_results_answer_the_calls_that_wait_whatever_their_ids() -> None:
    asked = Message("assistant", (ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "f", "{}")))
    here = Journaled((user("q"), asked), (), ("call_1", "call_2"), ("call_2",))
    renamed = Message("assistant", (ToolCall("mine_1", "f", '{ "a": 1 }'), ToolCall("mine_2", "f", "")))
    results = [Message("tool", (ToolResult(f"mine_{n}", "f", (Text(f"r{n}"),)),)) for n in (1, 2)]
    plan = reconcile(here, [user("q"), renamed, *results, user("also")], first=1)
    assert plan == Continue((ToolResult("call_2", "f", (Text("r2"),)),), (Text("also"),))
