"""What processes tell each other, as it is written: it fits, it comes back as it was, and a name stays whole."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from remanence.ports import Delta, DeltaKind
from remanence.runtime.notes import Called, Hello, News, Note, Piece, Progress, Wish, messages_of, read_message, runs_of

BYTES = 7_900
KINDS: list[DeltaKind] = ["text", "thinking", "tool_name", "tool_arguments"]
anything = st.text(st.characters(), max_size=40) | st.integers(1, 5_000).map(lambda n: "\x01" * n)
kinds = st.sampled_from(KINDS)
deltas = st.lists(st.builds(Delta, st.just("model_1_1"), st.integers(0, 3), kinds, anything), max_size=60)


def whole(text: str) -> str:
    """As JSON carries it: a half of a character is no character."""
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)


@given(deltas)
def test_what_was_said_fits_and_comes_back(said: list[Delta]) -> None:
    said = [delta for delta in said if delta.kind != "tool_name" or len(delta.text) <= 200]
    notes = [Piece("s" * 200, 7, Called("model_1_1", 1, 0), runs) for runs in runs_of(said)]
    messages = [*messages_of("me", notes, BYTES)]
    assert all(len(message) <= BYTES for message in messages)
    heard: list[tuple[int, str, str]] = []
    for message in messages:
        read = read_message(message)
        assert read is not None
        for note in read.notes:
            assert isinstance(note, Piece)
            heard += note.runs
    assert together(heard) == together([(d.index, d.kind, whole(d.text)) for d in said])


def together(runs: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Runs of one part in a row, put together."""
    spoken = [run for run in runs if run[2]]
    return [(*of, "".join(text for _, _, text in row)) for of, row in groupby(spoken, key=lambda run: (run[0], run[1]))]


@given(st.lists(st.integers(1, 900), max_size=8), st.integers(1, 128))
def test_the_name_of_a_tool_is_never_cut(before: list[int], length: int) -> None:
    said = [Delta("c", 2 * n, "text", "x" * size) for n, size in enumerate(before)]
    said.append(Delta("c", 99, "tool_name", "n" * length))
    names = [text for runs in runs_of(said) for _, kind, text in runs if kind == "tool_name"]
    assert names == ["n" * length]


def test_notes_come_in_as_few_messages_as_hold_them() -> None:
    notes: list[Note] = [Wish(f"session {n}", pieces=True) for n in range(1_000)]
    messages = [*messages_of("me", notes, BYTES)]
    assert len(messages) < 10
    read = [read_message(message) for message in messages]
    assert [note for one in read if one is not None for note in one.notes] == notes


def test_a_note_that_fits_into_no_message_is_left_out() -> None:
    notes: list[Note] = [Hello(), News("x" * 9_000, 1, 2), Progress("s", "c", "half \ud83d of it")]
    (message,) = messages_of("me", notes, BYTES)
    read = read_message(message)
    assert read is not None
    assert read.notes == (Hello(), Progress("s", "c", "half \ufffd of it"))


def test_what_is_no_message_of_ours_says_nothing() -> None:
    for junk in (b"", b"{}", b"[1]", b'["me",[["later","s"]]]', b'["me",[["wish","s",1]]]', b"\xff\xfe", b"[" * 9_999):
        assert read_message(junk) is None
