"""What a journal says to remember, record by record."""

from __future__ import annotations

from remanence.content import Text, ToolCall
from remanence.core.memory.grants import Subject
from remanence.core.memory.journal import journal_of, owner_of, tenant_of
from remanence.core.memory.projection import EPISODE_CHARS_MAX, Names, changes_of
from remanence.events import (
    Event,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    ModelReplied,
    Recorded,
    ToolReturned,
    ToolStarted,
    TurnEnded,
)
from remanence.recollections import Close, Keep, Memory, MemoryChange, Place

ADA = Subject("default", "support", "s", "ada")
HOME = Place("default", "user:ada")


def changes(event: Event, *, home: Place | None = HOME, tool: str = "", redacted: bool = False) -> list[MemoryChange]:
    return list(changes_of(Recorded("s", 7, 1_000, 1, "w", event, redacted=redacted), ADA, home=home, tool=tool))


def kept(event: Event, *, tool: str = "") -> Memory:
    (change,) = changes(event, tool=tool)
    assert isinstance(change, Keep)
    return change.memory


def said(text: str) -> tuple[Text, ...]:
    return (Text(text),)


def test_what_is_said_is_an_episode_where_the_session_is_at_home() -> None:
    heard = kept(InputReceived("i", said("hello"), "key:app"))
    assert (heard.id, heard.text, heard.speaker, heard.author, heard.place) == ("s#7", "hello", "ada", "user:ada", HOME)
    assert kept(ModelReplied("m", said("hi"))).speaker == "support"
    found = kept(ToolReturned("c", said("42")), tool="look")
    assert (found.author, found.label) == ("tool:look", "trusted")
    assert kept(ToolReturned("c", said("42"), untrusted=True), tool="look").label == "untrusted"


def test_nothing_is_an_episode_without_a_home_or_words() -> None:
    assert not changes(InputReceived("i", said("hello"), "ada"), home=None)
    assert not changes(InputReceived("i", said("  "), "ada"))
    assert not changes(ModelReplied("m", (ToolCall("c", "look", "{}"),)))
    assert not changes(ToolReturned("c", said("no"), error=True), tool="look")
    assert not changes(ToolReturned("c", said("refused"), started=False), tool="look")
    assert not changes(TurnEnded(1, "completed"))


def test_the_memory_does_not_remember_itself() -> None:
    assert not changes(ToolReturned("c", said("[s#2] hello")), tool="memory_search")


def test_what_was_redacted_is_not_remembered() -> None:
    assert not changes(InputReceived("i", said("[redacted]"), "ada"), redacted=True)
    assert not changes(MemoryKept("default", "m", "[redacted]"), redacted=True)


def test_a_long_text_is_indexed_in_part() -> None:
    assert len(kept(InputReceived("i", said("x" * 20_000), "ada")).text) == EPISODE_CHARS_MAX


def test_a_note_lies_where_it_says_also_without_a_home() -> None:
    fact = MemoryKept(
        "team",
        "m1",
        "Lunch is at noon.",
        2,
        ("lunch",),
        scope="project",
        version=3,
        valid_from=5,
        untrusted=True,
        by="x",
    )
    (change,) = changes(fact, home=None)
    assert change == Keep(
        Memory(
            id="m1",
            version=3,
            kind="note",
            project="default",
            place=Place("team", "project"),
            text="Lunch is at noon.",
            session="s",
            position=7,
            author="x",
            subjects=("lunch",),
            label="untrusted",
            recorded_at=1_000,
            valid_from=5,
        )
    )


def test_a_memory_that_takes_anothers_place_closes_it_and_one_that_follows_does_not() -> None:
    _, closed = changes(MemoryKept("default", "m2", "new", supersedes="m1", valid_from=9))
    assert closed == Close("default", "m1", 1_000, valid_to=9)
    assert len(changes(MemoryKept("default", "m2", "new", follows="m1"))) == 1
    assert changes(MemoryForgotten("default", "m1", "ada")) == [Close("default", "m1", 1_000)]


def test_the_name_of_a_block_is_its_first_subject() -> None:
    block = kept(MemoryKept("default", "b", "Be brief.", kind="block", name="style", subjects=("ada",)))
    assert (block.kind, block.subjects) == ("block", ("style", "ada"))


def test_names_know_whose_result_it_is() -> None:
    names = Names()
    names.see(Recorded("s", 1, 0, 1, "w", ModelReplied("m", (ToolCall("c1", "look", "{}"),))))
    names.see(Recorded("s", 2, 0, 1, "w", ToolStarted("c2", "post", "k", "never")))
    assert (names.tool("c1"), names.tool("c2"), names.tool("c3")) == ("look", "post", "")


def test_the_journal_of_a_store_belongs_to_the_project_and_lies_beside_it() -> None:
    assert owner_of(tenant_of("acme")) == owner_of("acme") == "acme"
    assert journal_of("acme", "team") != journal_of("acme", "default") != journal_of("other", "default")
