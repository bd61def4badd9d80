"""Laws of names: where one stands is found, a pseudonym takes its place under a seal, and amounts stay."""

from __future__ import annotations

from remanence.content import Usage
from remanence.errors import Conflict
from remanence.events import (
    GENESIS,
    InputReceived,
    Redacted,
    Renames,
    SessionFrozen,
    SessionOpened,
    encode_event,
    renamed,
    seal_of,
    skeleton,
)
from remanence.ports import Cursor, Database, SessionQuery, UsageQuery
from remanence.stores.rows import SPILL_BYTES
from remanence.testing.conformance.harness import T0, Harness, law, opened, said, verified, write

WHO = Renames({"ada": "erased:1"})


@law
async def a_name_is_found_wherever_it_stands(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("hello"), said("Grace said so"), actor="linus"))
    await db.store.append(write("s", said("x"), SessionFrozen('a "b'), actor="grace hopper"))
    await db.store.append(write("s", InputReceived("in", said("y" * SPILL_BYTES).parts, user="hidden"), actor="linus"))
    await db.store.append(opened("t", actor="grace"))
    assert sorted(await db.naming(["grace"])) == [("s", 4), ("s", 5), ("t", 1)]
    assert sorted(await db.naming(["Grace", 'a "b', "hidden"])) == [("s", 3), ("s", 5), ("s", 6)]
    assert await db.naming(["nobody at all"]) == []


async def _sealed(db: Database, session: str, positions: range) -> list[Redacted]:
    """What announces the erasure of some records, with pseudonyms."""
    events, previous = list[Redacted](), GENESIS
    for row, record in zip(await db.raw(session), await db.store.read(session), strict=True):
        if row.position in positions:
            left, header = encode_event(renamed(skeleton(record.event), WHO)), (row.position, row.at, row.epoch)
            position, at, epoch = header
            actor = WHO.user(row.actor)
            seal = seal_of(previous + row.digest, left, position=position, at=at, epoch=epoch, actor=actor)
            events.append(Redacted(position, "linus", "asked to", seal))
        previous = row.digest
    return events


@law
async def a_pseudonym_takes_a_names_place_and_the_chain_holds(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), said("two"), said("three")))
    digests = [record.digest for record in await db.store.read("s")]
    for positions, count in ((range(2, 3), 5), (range(1, 5), 9)):
        events = await _sealed(db, "s", positions)
        await db.store.append(write("s", *events, actor="linus", renames=WHO))
        assert await verified(db, "s") == count
    records = await db.store.read("s")
    assert [record.actor for record in records[:5]] == ["erased:1"] * 4 + ["linus"]
    assert [record.digest for record in records[:4]] == digests
    assert isinstance(records[0].event, SessionOpened)
    assert records[0].event.user == "erased:1"
    assert await db.naming(["ada"]) == []
    await h.refused(Conflict, db.store.append(write("s", Redacted(1, "linus"), expect=1, renames=WHO)))


@law
async def beside_the_journals_amounts_stay_under_the_pseudonym(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), key="open:ada:1", key_digest="d"))
    for scope in ("user@lab:ada", "user@lab:ben", "user@other:ada"):
        await db.controls.set_budget(scope, "usd_micros", 100, at=T0, spent=7)
    await db.controls.freeze("project:lab", at=T0, by="ada", reason="wait")
    row = (await db.views.session("s")).summary
    await db.views.record_usage(Cursor("s", 0, 2), [(T0, row, "m", Usage(5, 6), 70)])
    for _ in range(2):  # again is nothing
        await db.rename_user("lab", "ada", "erased:1")
    assert (await db.views.session("s")).summary.user == "erased:1"
    assert await db.views.sessions(SessionQuery(user="ada")) == []
    budgets = {budget.scope: budget.spent for budget in await db.controls.budgets()}
    assert budgets == {"user@lab:erased:1": 7, "user@lab:ben": 7, "user@other:ada": 7}
    assert [hold.by for hold in await db.controls.holds()] == ["erased:1"]
    for by in (("user",), ("user", "session")):
        (used,) = await db.views.usage(UsageQuery(by=by))
        assert (used.key[0], used.calls, used.usd_micros) == ("erased:1", 1, 70)
    await db.store.append(write("s", said("two"), summary=row))
    # Read before the name was replaced, recorded after.
    await db.views.record_usage(Cursor("s", 2, 3), [(T0, row, "m", Usage(5, 6), 70)])
    for by in (("user",), ("user", "day")):
        (used,) = await db.views.usage(UsageQuery(by=by))
        assert (used.key[0], used.calls, used.usd_micros) == ("erased:1", 2, 140)
    assert (await db.views.session("s")).summary.user == "erased:1", "an old row does not bring a name back"
