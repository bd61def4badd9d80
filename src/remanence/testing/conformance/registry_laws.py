"""Laws of the registry: one entry to an id, changed by who saw it last, listed in the order of making."""

from __future__ import annotations

import asyncio
from typing import Any

from remanence.errors import Conflict, NotFound
from remanence.ports import HOLDING_MAX, Entry, EntryQuery
from remanence.testing.conformance.harness import T0, Harness, law, opened, said, write


def entry(name: str, body: bytes = b"{}", *, kind: str = "thing", project: str = "lab", at: int = T0) -> Entry:
    """One entry, as somebody would make it."""
    return Entry(kind, project, name, at, at, body)


@law
async def an_entry_is_made_changed_and_removed(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    made = await db.registry.put(entry("a", b'{"n":1}'), expect=0)
    assert made == await other.registry.get("thing", "a") == entry("a", b'{"n":1}')
    changed = await other.registry.put(entry("a", b'{"n":2}', at=T0 + 5), expect=1)
    assert (changed.revision, changed.at, changed.updated_at, changed.body) == (2, T0, T0 + 5, b'{"n":2}')
    assert await db.registry.get("thing", "a") == changed
    await db.registry.remove("thing", "a")
    await h.refused(NotFound, other.registry.get("thing", "a"))
    await h.refused(NotFound, other.registry.remove("thing", "a"))
    assert (await other.registry.put(entry("a"))).revision == 1


@law
async def an_entry_is_changed_only_by_who_saw_it_last(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await h.refused(Conflict, db.registry.put(entry("a"), expect=1))
    await db.registry.put(entry("a"), expect=0)
    await h.refused(Conflict, other.registry.put(entry("a"), expect=0))
    attempts = [each.registry.put(entry("a", b'{"by":"x"}'), expect=1) for each in (db, other, db, other)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, Entry) for outcome in outcomes) == 1, outcomes
    assert (await db.registry.get("thing", "a")).revision == 2


@law
async def what_was_removed_is_not_changed_back_into_being(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    for number in range(20):
        name = f"a{number}"
        await db.registry.put(entry(name))
        changing = db.registry.put(entry(name, b'{"n":2}'), expect=1)
        changed, removed = await asyncio.gather(changing, other.registry.remove("thing", name), return_exceptions=True)
        assert removed is None, removed
        assert isinstance(changed, Entry | Conflict), changed
        await h.refused(NotFound, db.registry.get("thing", name))


@law
async def what_is_journaled_beside_a_change_is_not_lost_under_it(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    for number in range(20):
        name = f"a{number}"
        await db.registry.put(entry(name))
        changing = db.registry.put(entry(name, b'{"by":"change"}'), expect=1)
        journaling = other.store.append(write("s", said("hello"), entries=(entry(name, b'{"by":"write"}'),)))
        changed, appended = await asyncio.gather(changing, journaling, return_exceptions=True)
        assert not isinstance(appended, BaseException), appended
        assert isinstance(changed, Entry | Conflict), changed
        kept = await db.registry.get("thing", name)
        assert kept.body == b'{"by":"write"}', (number, changed)
        assert kept.revision == (3 if isinstance(changed, Entry) else 2)


@law
async def entries_are_listed_in_the_order_of_making(h: Harness) -> None:
    db = await h.open()
    for name in "cab":
        await db.registry.put(entry(name))
    await db.registry.put(entry("d", project="elsewhere"))
    await db.registry.put(entry("a", kind="other"))
    await db.registry.put(entry("c", b'{"changed":true}'))

    async def names(query: EntryQuery) -> str:
        return "".join(found.id for found in await db.registry.list(query))

    assert await names(EntryQuery("thing")) == "cabd"
    assert await names(EntryQuery("thing", "lab")) == "cab"
    assert await names(EntryQuery("thing", "lab", newest_first=True)) == "bac"
    assert await names(EntryQuery("thing", "lab", after="c", limit=1)) == "a"
    assert await names(EntryQuery("thing", "lab", after="b", newest_first=True)) == "ac"
    assert await names(EntryQuery("nothing")) == ""
    assert list(await db.registry.kinds()) == ["other", "thing"]
    await h.refused(NotFound, db.registry.list(EntryQuery("thing", "lab", after="z")))


@law
async def entries_are_found_by_what_their_body_holds(h: Harness) -> None:
    db = await h.open()
    bodies = {
        "a": b'{"by":"ad%_a"}',
        "b": '{"by":"Zo\u00eb\\n"}'.encode(),
        "c": b'"ad%_a"',
        "d": b"{}",
        "e": b"\xff\x00x",
    }
    for name, body in bodies.items():
        await db.registry.put(entry(name, body))
    await db.registry.put(entry("f", b'"ad%_a"', project="elsewhere"))

    async def names(*holding: bytes, **others: Any) -> str:
        return "".join(found.id for found in await db.registry.list(EntryQuery("thing", holding=holding, **others)))

    assert await names(b'"ad%_a"') == "acf"
    assert await names(b'"ad%_a"', project="lab", newest_first=True) == "ca"
    assert await names(b'"ad%_a"', after="a", limit=1) == "c"
    assert await names("Zo\u00eb\\n".encode(), b"\x00x", b"nobody") == "be"
    assert await names(b"nobody") == ""
    assert await names(*[b"nobody"] * (HOLDING_MAX - 1), b"{}") == "d"


@law
async def what_nothing_can_be_called_is_not_there(h: Harness) -> None:
    db = await h.open()
    await db.registry.put(entry("a"))
    for name in ("a\0", "\0", ""):
        await h.refused(NotFound, db.registry.get("thing", name))
        await h.refused(NotFound, db.registry.remove("thing", name))
        await h.refused(NotFound, db.registry.list(EntryQuery("thing", "lab", after=name)))
        await h.refused(NotFound, db.store.load(name))
        await h.refused(NotFound, db.store.read(name))
        await h.refused(NotFound, db.views.session(name))
        await h.refused(NotFound, db.specs.get(name))
        assert list(await db.specs.versions("lab", name)) == []


@law
async def what_is_journaled_takes_its_entries_along_or_leaves_them_behind(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", entries=(entry("opened"),)))
    assert (await other.registry.get("thing", "opened")).revision == 1
    await db.registry.put(entry("a", b'{"n":1}'))
    await db.store.append(write("s", said("hello"), expect=1, entries=(entry("a", b'{"n":2}', at=T0 + 5), entry("b"))))
    changed = await other.registry.get("thing", "a")
    assert (changed.revision, changed.at, changed.updated_at, changed.body) == (2, T0, T0 + 5, b'{"n":2}')
    assert await db.registry.get("thing", "b") == entry("b")
    # Refused: nothing of it is there, neither in the journal nor beside it.
    await h.refused(Conflict, db.store.append(write("s", said("late"), expect=1, entries=(entry("late"),))))
    await h.refused(NotFound, other.registry.get("thing", "late"))
    assert (await other.registry.put(entry("b", b'{"n":3}'), expect=1)).revision == 2


@law
async def a_write_that_was_made_before_leaves_the_entries_as_they_are(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    first = write("s", said("hello"), key="k", key_digest="d", entries=(entry("a", b'{"n":1}'),))
    assert not (await db.store.append(first)).replayed
    again = write("s", said("hello"), key="k", key_digest="d", entries=(entry("a", b'{"n":2}'), entry("b")))
    assert (await other.store.append(again)).replayed
    assert (await db.registry.get("thing", "a")).body == b'{"n":1}'
    await h.refused(NotFound, db.registry.get("thing", "b"))


@law
async def of_writes_at_the_same_time_each_keeps_its_own_entries(h: Harness) -> None:
    db = await h.open()
    await asyncio.gather(*(db.store.append(opened(f"s{n}")) for n in range(20)))
    writes = [write(f"s{n}", said("hello"), expect=1 + n % 2, entries=(entry(f"e{n:02}"),)) for n in range(20)]
    outcomes = await asyncio.gather(*(db.store.append(one) for one in writes), return_exceptions=True)
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [bool(n % 2) for n in range(20)], outcomes
    kept = await db.registry.list(EntryQuery("thing"))
    assert sorted(found.id for found in kept) == [f"e{n:02}" for n in range(0, 20, 2)]
