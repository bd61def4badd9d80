"""Laws of the memory's index: what is kept is found, where it may be read, the same on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from remanence.errors import InvalidInput, NotFound
from remanence.events import Redacted
from remanence.ports import Cursor, Memories
from remanence.recollections import (
    Close,
    Keep,
    Memory,
    MemoryChange,
    MemoryHit,
    MemoryListing,
    MemoryQuery,
    MemorySelector,
    MemoryVector,
    Place,
)
from remanence.testing.conformance.harness import SECOND, T0, Harness, law, opened, said, write

ADA, BOB = Place("notes", "user:ada"), Place("notes", "user:bob")
DAY = 86_400 * SECOND


def memory(text: str, position: int = 1, session: str = "s", **more: Any) -> Memory:
    """An episode of Ada's, as a projection would make it."""
    given: dict[str, Any] = {
        "kind": "episode",
        "project": "lab",
        "place": ADA,
        "recorded_at": T0 + position * SECOND,
        **more,
    }
    given.setdefault("id", f"{session}#{position}")
    return Memory(text=text, session=session, position=position, **given)


def note(name: str, text: str, version: int = 1, **more: Any) -> Memory:
    """A note of Ada's."""
    return memory(text, more.pop("position", version), id=name, kind="note", version=version, **more)


def query(text: str, *places: Place, **more: Any) -> MemoryQuery:
    """A question of Ada's, a day later."""
    given: dict[str, Any] = {"now": T0 + DAY, **more}
    return MemoryQuery(project="lab", readable=places or (ADA,), text=text, **given)


async def keep(memories: Memories, *kept: Memory) -> None:
    """Keep these at once."""
    assert await memories.apply([Keep(one) for one in kept])


async def found(memories: Memories, text: str, *places: Place, **more: Any) -> list[str]:
    """The ids of the hits, best first."""
    return [hit.memory.id for hit in await memories.search(query(text, *places, **more))]


def told(hits: Sequence[MemoryHit]) -> list[tuple[str, float]]:
    """What must be the same everywhere."""
    return [(hit.memory.id, round(hit.score, 6)) for hit in hits]


@law
async def what_is_kept_is_found_and_says_why(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    kept = [
        memory("Which city do you live in?", 1, speaker="Bob"),
        memory("Lyon, since the spring. The trains are loud.", 2, speaker="Ada"),
        memory("The weather was fine.", 3, speaker="Bob"),
    ]
    await keep(db.memories, *kept)
    hits = await other.memories.search(query("Where does Ada hear trains?"))
    assert hits[0].memory == kept[1] == await other.memories.get("lab", "s#2")
    assert {share.by for share in hits[0].why} == {"words", "session", "speaker"}
    assert next(share.words for share in hits[0].why if share.by == "words") == ("trains",)
    for hit in hits:
        assert abs(sum(share.share for share in hit.why) - hit.score) < 1e-4
    # An answer does not repeat its question's words: it is found by standing beside them.
    assert (await found(db.memories, "city"))[:2] == ["s#2", "s#1"]
    assert await found(db.memories, "of the and") == await found(db.memories, "zebra") == []


@law
async def keeping_twice_is_keeping_once(h: Harness) -> None:
    db = await h.open()
    kept = [memory("The parcel arrived broken", 1), memory("A refund was made", 2)]
    await keep(db.memories, *kept)
    before = await db.memories.search(query("broken parcel refund")), await db.memories.stats()
    await keep(db.memories, *kept, kept[0])
    assert (await db.memories.search(query("broken parcel refund")), await db.memories.stats()) == before


@law
async def nothing_is_found_where_it_may_not_be_read(h: Harness) -> None:
    db = await h.open()
    await keep(db.memories, memory("Ada keeps bees", 1), memory("The bees swarmed in May", 2))
    alone = told(await db.memories.search(query("bees")))
    secret = [memory("Bob fears bees", n, f"b{n}", place=BOB, id=f"b#{n}") for n in range(1, 9)]
    await keep(db.memories, *secret, msgspec.structs.replace(memory("bees elsewhere"), project="other"))
    # Not even by a score: the frequency of a word is counted over what may be read.
    assert told(await db.memories.search(query("bees"))) == alone
    assert len(await found(db.memories, "bees", ADA, BOB)) == 10
    assert await found(db.memories, "bees", Place("notes", "user:eve")) == []
    assert await found(db.memories, "bees", Place("other", "user:ada")) == []
    assert await db.memories.search(msgspec.structs.replace(query("bees"), readable=())) == []
    assert list(await db.memories.places("lab")) == [ADA, BOB]


@law
async def a_newer_version_closes_the_older_whatever_came_first(h: Harness) -> None:
    versions = [
        note("home", "Ada lives in Lyon", 1, recorded_at=T0),
        note("home", "Ada lives in Nantes", 2, recorded_at=T0 + 10 * DAY, valid_from=T0 + 9 * DAY),
        note("home", "Ada lives in Brest", 3, recorded_at=T0 + 20 * DAY),
    ]
    changes = [*map(Keep, versions), Close("lab", "home", T0 + 30 * DAY, T0 + 29 * DAY)]
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])):
        db = await h.open()
        await db.memories.clear()
        for step in order:
            assert await db.memories.apply([changes[step]])
        await _check_versions(db.memories, number)


async def _check_versions(memories: Memories, number: int) -> None:
    async def lives(**more: Any) -> list[str]:
        hits = await memories.search(query("Where does Ada live?", **{"now": T0 + 25 * DAY, **more}))
        return [hit.memory.text.split()[-1] for hit in hits]

    history = await memories.history("lab", "home")
    assert [one.version for one in history] == [1, 2, 3], number
    assert [one.closed_at for one in history] == [T0 + 10 * DAY, T0 + 20 * DAY, T0 + 30 * DAY], number
    assert [one.valid_to for one in history] == [T0 + 9 * DAY, None, T0 + 29 * DAY], number
    assert await lives() == ["Brest"]
    assert await lives(believed_at=T0 + 5 * DAY) == ["Lyon"]
    assert await lives(believed_at=T0 + 15 * DAY) == ["Nantes"]
    assert await lives(believed_at=T0 + 15 * DAY, valid_at=T0 + 8 * DAY) == []
    assert await lives(valid_at=T0 + 8 * DAY, now=T0 + 15 * DAY) == ["Lyon"]
    assert await lives(now=T0 + 31 * DAY) == []
    listing = MemoryListing(project="lab")
    assert list(await memories.list(listing)) == []
    assert [one.version for one in await memories.list(msgspec.structs.replace(listing, closed=True))] == [3]
    then = msgspec.structs.replace(listing, believed_at=T0 + 15 * DAY)
    assert [one.text for one in await memories.list(then)] == ["Ada lives in Nantes"]


@law
async def many_may_add_at_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    changes: list[list[MemoryChange]] = []
    for n in range(8):
        session = f"s{n % 4}"
        said_here = [Keep(memory(f"tea and bread number {n}", 10 * n + k, session)) for k in range(5)]
        changes.append([*said_here, Keep(memory("tea", 10 * n + 9, session, place=BOB)), _version(n)])
    changes.append([Close("lab", "shared", T0 + 20 * DAY)])
    writers = [one.memories.apply(some) for n, some in enumerate(changes) for one in ((db, other)[n % 2], db)]
    assert all(await asyncio.gather(*writers))
    assert len(await found(db.memories, "bread", limit=100)) == 40
    assert len(await found(other.memories, "tea", BOB, limit=100)) == 8
    history = await db.memories.history("lab", "shared")
    assert [one.closed_at for one in history] == [*(T0 + n * DAY for n in range(1, 8)), T0 + 20 * DAY]
    assert (await db.memories.stats()).versions == 40 + 8 + 8


def _version(n: int) -> Keep:
    return Keep(note("shared", f"version {n}", n + 1, recorded_at=T0 + n * DAY))


@law
async def words_are_found_in_their_other_forms(h: Harness) -> None:
    db = await h.open()
    texts = [
        "She was running her errands",
        "Les commandes ont été remboursées à la cliente",
        "J'ai mangé une crème brûlée à l'école",
        "东京大学的图书馆",
        "コーヒーが好きです",
        "Order ORD-4711 was lost",
        "The ﬁnal naïve Œuvre",
    ]
    await keep(db.memories, *(memory(text, 1, f"s{n}", id=str(n)) for n, text in enumerate(texts)))
    asked = {
        "run errand": "0",
        "rembourser une commande": "1",
        "remboursement": "1",
        "CREME BRULEE": "2",
        "écoles": "2",
        "ecole": "2",
        "图书馆": "3",
        "コーヒー": "4",
        "4711": "5",
        "final oeuvre": "6",
    }
    for question, expected in asked.items():
        assert (await found(db.memories, question))[:1] == [expected], question


@law
async def who_said_it_and_when_counts(h: Harness) -> None:
    db = await h.open()
    june = T0 - 90 * DAY
    await keep(
        db.memories,
        memory("I bought a red bicycle", 1, "a", speaker="Ada"),
        memory("I bought a red bicycle", 1, "b", speaker="Bob"),
        memory("I bought a red bicycle", 1, "c", speaker="Eve", recorded_at=june),
    )
    assert (await found(db.memories, "Did Bob buy a bicycle?"))[0] == "b#1"
    assert (await found(db.memories, "Who bought a bicycle three months ago?"))[0] == "c#1"
    assert (await found(db.memories, "Qui a acheté a bicycle il y a trois mois ?"))[0] == "c#1"


@law
async def a_question_leaves_out_what_it_says(h: Harness) -> None:
    db = await h.open()
    await keep(
        db.memories,
        memory("tea at noon", 1),
        memory("tea at five", 2),
        note("n", "tea with milk", session="other", expires_at=T0 + 5 * DAY),
        memory("tea is served", 9, id="b", kind="block"),
    )
    assert set(await found(db.memories, "tea")) == {"s#1", "s#2", "n"}
    assert set(await found(db.memories, "tea", window=("s", 1))) == {"s#1", "n"}
    assert await found(db.memories, "tea", kinds=("note",)) == ["n"]
    assert await found(db.memories, "tea", kinds=("block",)) == ["b"]
    assert "n" not in await found(db.memories, "tea", now=T0 + 6 * DAY)
    assert await found(db.memories, "tea", limit=1) == (await found(db.memories, "tea"))[:1]


@law
async def memories_are_listed_newest_first(h: Harness) -> None:
    db = await h.open()
    await keep(
        db.memories,
        *(memory(f"said {n}", n) for n in range(1, 5)),
        note("n", "a note", position=9, subjects=("bees",), session="t"),
        memory("elsewhere", 7, "t", place=BOB),
    )

    async def ids(**more: Any) -> list[str]:
        return [one.id for one in await db.memories.list(MemoryListing(project="lab", **more))]

    assert await ids() == ["n", "t#7", "s#4", "s#3", "s#2", "s#1"]
    assert await ids(limit=2, after="t#7") == ["s#4", "s#3"]
    assert await ids(places=(BOB,)) == ["t#7"]
    assert await ids(places=()) == []
    assert await ids(kinds=("note",)) == await ids(subject="bees") == ["n"]
    assert await ids(session="t") == ["n", "t#7"]
    await h.refused(NotFound, db.memories.get("lab", "nothing"))
    await h.refused(NotFound, db.memories.get("lab", "n", 2))
    await h.refused(NotFound, db.memories.history("other", "n"))


@law
async def every_version_is_listed_by_id_page_by_page(h: Harness) -> None:
    db = await h.open()
    await keep(
        db.memories,
        *(memory(f"said {n}", n) for n in range(1, 4)),
        *(note("n", f"version {n}", n, position=n, recorded_at=T0 + n * DAY) for n in (1, 2)),
        memory("elsewhere", 7, "t", place=BOB),
    )
    whole = [("n", 1), ("n", 2), ("s#1", 1), ("s#2", 1), ("s#3", 1), ("t#7", 1)]
    ids = sorted({name for name, _ in whole})
    for limit in (1, 2, 50):
        found: list[tuple[str, int]] = []
        after: str | None = None
        for at in range(0, len(ids), limit):
            listing = MemoryListing(project="lab", every_version=True, limit=limit, after=after)
            page = [(one.id, one.version) for one in await db.memories.list(listing)]
            assert {name for name, _ in page} == set(ids[at : at + limit])
            found, after = found + page, page[-1][0]
        assert found == whole

    async def listed(**more: Any) -> list[tuple[str, int]]:
        listing = MemoryListing(project="lab", every_version=True, **more)
        return [(one.id, one.version) for one in await db.memories.list(listing)]

    assert await listed(places=(BOB,)) == [("t#7", 1)]
    assert await listed(kinds=("note",), believed_at=T0 + DAY) == [("n", 1), ("n", 2)]
    assert await listed(kinds=("note",), believed_at=T0 - DAY) == await listed(after="t#7") == []


@law
async def what_is_removed_is_as_if_it_had_never_been(h: Harness) -> None:
    db = await h.open()
    stay = [memory("The garden has roses", 1, "a"), note("n", "roses need water", session="a", subjects=("garden",))]
    go = [
        *(memory(f"secret roses number {n}", n, "b", speaker="Eve") for n in range(1, 4)),
        note("m", "roses are secret", session="b", subjects=("Eve",)),
        note("m", "roses are very secret", 2, session="b", subjects=("Eve",)),
    ]
    await keep(db.memories, *stay)
    before = told(await db.memories.search(query("secret roses of Eve"))), await db.memories.stats()
    await keep(db.memories, *go)
    removal = await db.memories.remove(MemorySelector(project="lab", subject="Eve"))
    assert sorted((one.id, one.version) for one in removal.memories) == [("m", 1), ("m", 2)]
    removal = await db.memories.remove(MemorySelector(project="lab", session="b", positions=(1,)))
    assert [one.id for one in removal.memories] == ["b#1"]
    removal = await db.memories.remove(MemorySelector(project="lab", session="b"))
    assert [one.id for one in removal.memories] == ["b#2", "b#3"]
    assert removal.rows["memories"] == 2
    assert (told(await db.memories.search(query("secret roses of Eve"))), await db.memories.stats()) == before
    assert (await db.memories.remove(MemorySelector(project="other", ids=("n",)))).memories == ()
    await h.refused(InvalidInput, db.memories.remove(MemorySelector(project="lab")))


@law
async def a_cursor_moves_with_what_it_adds(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    (cursor,) = await db.store.behind("memory", limit=10)
    assert cursor == Cursor("s", 0, 3)
    assert await db.memories.apply([Keep(memory("one", 2))], cursor)
    assert not await other.memories.apply([Keep(memory("late", 3))], cursor)
    assert list(await db.store.behind("memory", limit=10)) == []
    assert [one.text for one in await db.memories.list(MemoryListing(project="lab"))] == ["one"]
    begun = await other.memories.begun()
    await db.memories.clear()
    assert (await other.memories.begun(), await db.memories.begun()) == (begun + 1, begun + 1)
    assert list(await db.memories.list(MemoryListing(project="lab"))) == []
    assert list(await other.store.behind("memory", limit=10)) == [cursor]


@law
async def what_is_redacted_is_not_laid_down_by_who_read_it_before(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("the secret is plum"), said("and it rains")))
    (cursor,) = await db.store.behind("memory", limit=10)
    await other.store.append(write("s", Redacted(2, "ada")))
    read = [memory(text, position, session="s") for position, text in ((2, "the secret is plum"), (3, "and it rains"))]
    await db.memories.apply([Keep(one) for one in read], cursor)
    assert [one.text for one in await other.memories.list(MemoryListing(project="lab"))] == ["and it rains"]
    assert await db.memories.apply([Keep(one) for one in read])
    assert [one.text for one in await other.memories.list(MemoryListing(project="lab"))] == ["and it rains"]
    assert await found(db.memories, "secret plum rains") == ["s#3"]


def vector(one: Memory, *numbers: float) -> MemoryVector:
    """An embedding of a memory."""
    return MemoryVector(one.project, one.id, one.version, numbers)


@law
async def vectors_count_when_every_memory_has_one(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    kept = [memory("He does kickboxing", 1, "a"), memory("She bakes bread", 1, "b"), memory("bread is sold", 1, "c")]
    await keep(db.memories, *kept)
    near: dict[str, Any] = {"vector": (1.0, 0.1), "vector_model": "m"}
    words = await db.memories.search(query("martial arts or bread"))
    await db.memory_vectors.keep("m", [vector(kept[0], 2.0, 0.0), vector(kept[1], 0.0, 1.0)])
    assert [one.id for one in await db.memory_vectors.missing("m", limit=9)] == ["c#1"]
    assert list(await db.memory_vectors.complete()) == []
    assert await db.memories.search(query("martial arts or bread", **near)) == words
    await h.refused(InvalidInput, db.memory_vectors.keep("m", [vector(kept[2], 1.0, 2.0, 3.0)]))
    await h.refused(InvalidInput, db.memory_vectors.keep("m", [vector(kept[2], 0.0, 0.0)]))
    await db.memory_vectors.keep("m", [vector(kept[2], 0.5, 0.5), vector(memory("gone", 9), 1.0, 0.0)])
    assert list(await other.memory_vectors.complete()) == ["m"]
    hits = await other.memories.search(query("martial arts", **near))
    assert hits[0].memory.id == "a#1"
    assert [share.by for share in hits[0].why] == ["vector"]
    for hit in await db.memories.search(query("martial arts or bread", **near)):
        assert abs(sum(share.share for share in hit.why) - hit.score) < 1e-4


@law
async def a_new_embedding_model_answers_when_it_is_complete(h: Harness) -> None:
    db = await h.open()
    kept = [memory("He does kickboxing", 1, "a"), memory("She bakes bread", 1, "b")]
    await keep(db.memories, *kept)
    await db.memory_vectors.keep("old", [vector(one, 1.0, float(n)) for n, one in enumerate(kept)])
    words = await db.memories.search(query("bread"))
    await db.memory_vectors.keep("new", [vector(kept[0], 1.0, 0.0, 0.0)])
    assert await db.memories.search(query("bread", vector=(1.0, 0.0, 0.0), vector_model="new")) == words
    by_old = await db.memories.search(query("bread", vector=(1.0, 0.0), vector_model="old"))
    assert {share.by for hit in by_old for share in hit.why} >= {"vector", "words"}
    await db.memory_vectors.keep("new", [vector(kept[1], 0.0, 1.0, 0.0)])
    # What comes later has no vector yet; the others still answer by theirs.
    await keep(db.memories, memory("Bread again", 1, "c"))
    assert list(await db.memory_vectors.complete()) == ["new", "old"]
    assert len(await found(db.memories, "bread", vector=(0.0, 1.0, 0.0), vector_model="new")) == 3
    assert (await db.memories.stats()).vectors == {"new": 2, "old": 2}
    await db.memories.remove(MemorySelector(project="lab", session="a"))
    assert (await db.memories.stats()).vectors == {"new": 1, "old": 1}
    assert await db.memory_vectors.forget("old") == 1
    assert list(await db.memory_vectors.complete()) == ["new"]
    await db.memories.clear()
    assert list(await db.memory_vectors.complete()) == []


WORDS = ["tea", "cup", "rain", "Lyon", "train", "bread", "cat", "song", "letter", "garden", "wine", "river", "clock"]


def scattered(random: Random) -> list[Memory]:
    """Sessions of two people in two places, and notes in several versions, in the order of their journals."""
    made: list[Memory] = []
    for session in range(6):
        place = random.choice((ADA, BOB))
        for position in range(1, random.randrange(3, 20)):
            text = " ".join(random.choices(WORDS, k=random.randrange(1, 9))) + random.choice((".", "?"))
            speaker = random.choice(("Ada", "Bob"))
            at = T0 + session * DAY + position * SECOND
            made.append(memory(text, position, f"s{session}", place=place, speaker=speaker, recorded_at=at))
    for name in "abc":
        for version in range(1, random.randrange(2, 4)):
            text = " ".join(random.choices(WORDS, k=4))
            made.append(note(name, text, version, session="notes", recorded_at=T0 + version * DAY))
    return made


@law
async def recall_is_a_function_of_the_journals(h: Harness) -> None:
    """Whatever order the sessions are read in, however many records at once: the same hits, the same scores."""
    db = await h.open()
    for seed in range(4):
        random = Random(seed)
        made = scattered(random)
        answers: list[list[list[tuple[str, float]]]] = []
        for _ in range(3):
            await db.memories.clear()
            by_session: dict[str, list[Memory]] = {}
            for one in made:
                by_session.setdefault(one.session, []).append(one)
            while by_session:
                session = random.choice(sorted(by_session))
                count = random.randrange(1, 8)
                await keep(db.memories, *by_session[session][:count])
                by_session[session] = by_session[session][count:]
                by_session = {name: rest for name, rest in by_session.items() if rest}
            asked = [query("tea in Lyon", ADA, BOB, now=T0 + 10 * DAY), query("Did Ada hear a song by the river?", ADA)]
            answers.append([told(await db.memories.search(one)) for one in asked])
        assert answers[0] == answers[1] == answers[2], seed
        assert all(answers[0]), seed


@law
async def what_happens_at_once_to_the_same_memories_waits_and_is_never_refused(h: Harness) -> None:
    """Removed, closed and given vectors from two sides, each in an order of its own."""
    db, other = await h.open(), await h.open()
    order = Random(1)
    for number in range(20):
        names = [f"note-{number}-{k}" for k in range(12)]
        versions = [note(name, f"tea {name}", v, subjects=("shed",)) for name in names for v in (1, 2)]
        await keep(db.memories, *versions)
        acts: list[Any] = []
        for one in (db, other, db, other):
            some = order.sample(names, 8)
            acts.append(one.memories.apply([Close("lab", name, T0 + 10 * DAY) for name in some]))
            vectors = [MemoryVector("lab", name, v, (1.0, 2.0)) for name in order.sample(names, 8) for v in (2, 1)]
            acts.append(one.memory_vectors.keep("model", vectors))
            if len(acts) > 3:
                acts.append(one.memories.remove(MemorySelector(project="lab", subject="shed")))
        order.shuffle(acts)
        await asyncio.gather(*acts)
        assert list(await db.memories.list(MemoryListing(project="lab", closed=True))) == []


@law
async def vectors_that_are_forgotten_while_they_are_kept_are_there_whole_or_not_at_all(h: Harness) -> None:
    """Nobody is refused, and a model is complete exactly when no memory misses a vector of it."""
    db, other = await h.open(), await h.open()
    order = Random(2)
    await keep(db.memories, *[note(f"note-{k}", f"tea {k}") for k in range(40)])
    for number in range(25):
        await keep(db.memories, *[note(f"old-{number}-{k}", "old", subjects=("shed",)) for k in range(3)])
        there = await db.memories.list(MemoryListing(project="lab", limit=100))
        vectors = [MemoryVector("lab", one.id, 1, (1.0, 2.0)) for one in there]
        await db.memory_vectors.keep("model", vectors)
        acts: list[Any] = [one.memory_vectors.keep("model", order.sample(vectors, len(there))) for one in (db, other)]
        acts += [one.memory_vectors.forget("model") for one in (other, db)]
        acts.append(db.memories.remove(MemorySelector(project="lab", subject="shed")))
        order.shuffle(acts)
        await asyncio.gather(*acts)
        missing = await db.memory_vectors.missing("model", limit=100)
        assert bool(missing) == ("model" not in await db.memory_vectors.complete())
