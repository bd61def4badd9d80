"""The index of memories is a function of them: the order of their arrival leaves nothing, other places do not show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from remanence.ports import Memories
from remanence.recollections import Close, Keep, Memory, MemoryChange, MemoryHit, MemoryQuery, MemorySelector, Place
from remanence.stores.sqlite.database import open_sqlite

T0 = 1_790_000_000_000_000
DAY = 86_400_000_000
WORDS = ["tea", "cups", "raining", "Lyon", "train", "bread", "the", "chat noir", "été", "letter", "東京都", "4711"]
PLACES = [Place("a", "user:ada"), Place("a", "user:bob"), Place("b", "project")]

texts = st.builds(
    lambda words, end: " ".join(words) + end,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8),
    st.sampled_from("?."),
)


@st.composite
def journals(draw: st.DrawFn) -> list[list[MemoryChange]]:
    """What some sessions have to remember, each in the order of its journal."""
    sessions: list[list[MemoryChange]] = []
    for number in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(PLACES))
        changes: list[MemoryChange] = [
            Keep(said(f"s{number}", position, draw(texts), place, draw(st.sampled_from(["Ada", "Bob"]))))
            for position in range(1, draw(st.integers(2, 9)))
        ]
        for name in draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True)):
            changes += noted(f"{name}{number}", f"s{number}", place, draw(st.lists(texts, min_size=1, max_size=3)))
        sessions.append(changes)
    return sessions


def said(session: str, position: int, text: str, place: Place, speaker: str) -> Memory:
    return Memory(
        id=f"{session}#{position}",
        kind="episode",
        project="lab",
        place=place,
        text=text,
        session=session,
        position=position,
        speaker=speaker,
        recorded_at=T0 + position,
    )


def noted(name: str, session: str, place: Place, versions: Sequence[str]) -> list[MemoryChange]:
    """A note in several versions; the last is forgotten when there are three."""
    changes: list[MemoryChange] = [
        Keep(replace(said(session, 20 + n, text, place, ""), id=name, kind="note", version=n, recorded_at=T0 + n * DAY))
        for n, text in enumerate(versions, 1)
    ]
    return [*changes, Close("lab", name, T0 + 9 * DAY)] if len(versions) == 3 else changes


def asked(text: str, *places: Place, **more: Any) -> MemoryQuery:
    return MemoryQuery(project="lab", readable=places, text=text, now=T0 + 10 * DAY, limit=100, **more)


async def answers(memories: Memories, questions: Sequence[MemoryQuery]) -> list[list[MemoryHit]]:
    return [[replace(hit, score=round(hit.score, 6)) for hit in await memories.search(query)] for query in questions]


async def arrived(memories: Memories, sessions: Sequence[Sequence[MemoryChange]], order: Sequence[int]) -> None:
    """Apply everything; `order` says from which session the next few changes come."""
    left = [list(changes) for changes in sessions]
    for step in order:
        some = left[step % len(left)]
        await memories.apply(some[: 1 + step % 3])
        del some[: 1 + step % 3]
    for changes in reversed(left):
        await memories.apply(changes)


quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
orders = st.lists(st.integers(0, 11), max_size=20)


@quick
@given(journals(), orders, orders, texts)
def test_recall_is_a_function_of_the_journals(
    sessions: list[list[MemoryChange]], first: list[int], second: list[int], question: str
) -> None:
    questions = [
        asked(question, *PLACES),
        asked(question, PLACES[0]),
        asked(question, *PLACES, believed_at=T0 + 2 * DAY),
        asked(f"Did Ada see {question}", PLACES[1], PLACES[2]),
    ]

    async def check() -> None:
        database = await open_sqlite(":memory:")
        try:
            await arrived(database.memories, sessions, first)
            live = await answers(database.memories, questions)
            await database.memories.clear()
            await arrived(database.memories, sessions, second)
            rebuilt = await answers(database.memories, questions)
        finally:
            await database.close()
        assert [without_share_order(hits) for hits in rebuilt] == [without_share_order(hits) for hits in live]

    asyncio.run(check())


def without_share_order(hits: Sequence[MemoryHit]) -> list[Any]:
    """Shares of the same size may stand in any order, and differ in their last digit."""
    return [(hit.memory, hit.score, sorted((share.by, round(share.share, 4)) for share in hit.why)) for hit in hits]


@quick
@given(journals(), journals(), orders, texts)
def test_other_places_do_not_show(
    mine: list[list[MemoryChange]], others: list[list[MemoryChange]], order: list[int], question: str
) -> None:
    """Not in the hits, not in a score, not after they were removed; in whatever order they came."""
    place = Place("private", "user:eve")
    moved = [[_moved(change, place) for change in changes] for changes in mine]
    query = asked(question, place)

    async def check() -> None:
        database = await open_sqlite(":memory:")
        try:
            await arrived(database.memories, moved, order)
            alone = await answers(database.memories, [query])
            await arrived(database.memories, others, order)
            assert await answers(database.memories, [query]) == alone
            for hit in alone[0]:
                assert hit.memory.place == place
            await database.memories.remove(MemorySelector(project="lab", store="a"))
            assert await answers(database.memories, [query]) == alone
        finally:
            await database.close()

    asyncio.run(check())


def _moved(change: MemoryChange, place: Place) -> MemoryChange:
    if isinstance(change, Close):
        return replace(change, id=f"eve-{change.id}")
    memory = change.memory
    return Keep(replace(memory, id=f"eve-{memory.id}", session=f"eve-{memory.session}", place=place))
