"""Laws of forks and of exported journals: nothing is copied, nothing is lost, nothing leaks back."""

from __future__ import annotations

from remanence.errors import Conflict, Frozen, InvalidInput, NotFound
from remanence.events import Redacted, SessionFrozen, SessionThawed, chain_digest, encode_event, payload_digest
from remanence.ports import Budget, Fork, Summary
from remanence.stores.rows import SPILL_BYTES
from remanence.testing.conformance.harness import (
    SECOND,
    T0,
    Harness,
    forked,
    law,
    leased,
    opened,
    said,
    texts,
    verified,
    write,
)


@law
async def a_fork_reads_its_past_from_its_source(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), said("two"), said("three")))
    first = (await db.store.append(forked("f", "s", 3, said("other three")))).records
    assert [r.position for r in first] == [4, 5]
    await db.store.append(write("s", said("four")))
    assert await texts(db, "f") == ["one", "two", "other three"]
    assert await texts(db, "s") == ["one", "two", "three", "four"]
    records = await db.store.read("f")
    assert [r.position for r in records] == [1, 2, 3, 4, 5]
    assert {r.session for r in records} == {"f"}
    assert [r.digest for r in records[:3]] == [r.digest for r in (await db.store.read("s"))[:3]]
    assert [r.position for r in await db.store.read("f", after=2, limit=2)] == [3, 4]
    assert [r.position for r in await db.store.read("f", after=4)] == [5]
    assert [r.position for r in await db.raw("f")] == [4, 5]
    loaded = await db.store.load("f")
    assert loaded.records == tuple(records)
    assert loaded.fork == Fork("s", 3)


@law
async def a_fork_knows_its_past_by_the_snapshots_of_its_source(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("a", said("1"), snapshot=b"a at 2"))
    await db.store.append(write("a", said("2"), said("3"), snapshot=b"a at 4"))
    await db.store.append(write("a", said("4")))
    await db.store.append(forked("b", "a", 3, said("5"), snapshot=b"b at 5"))
    await db.store.append(forked("c", "b", 4))
    await db.store.append(forked("d", "b", 2))
    for session, upto, state, position, after in (
        ("b", None, b"b at 5", 5, []),
        ("b", 4, b"a at 2", 2, [3, 4]),
        ("b", 2, b"a at 2", 2, []),
        ("b", 1, None, 0, [1]),
        ("c", None, b"a at 2", 2, [3, 4, 5]),
        ("d", None, b"a at 2", 2, [3]),
    ):
        loaded = await db.store.load(session, upto=upto)
        assert (loaded.snapshot, loaded.snapshot_position) == (state, position)
        assert [r.position for r in loaded.records] == after
        assert {r.session for r in loaded.records} <= {session}


@law
async def a_fork_chains_on_the_digest_it_was_taken_at(h: Harness) -> None:
    db = await h.open()
    source = (await db.store.append(opened("s", said("one"), said("two")))).records
    own = (await db.store.append(forked("f", "s", 2))).records[0]
    payload = payload_digest(encode_event(own.event))
    assert own.digest == chain_digest(source[1].digest, payload, position=3, at=T0, epoch=0, actor="ada")
    await db.store.append(write("f", said("mine"), expect=3))
    assert await verified(db, "f") == 2
    assert await verified(db, "s") == 3


@law
async def a_fork_of_a_fork_may_begin_anywhere(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("a", said("1"), said("2"), said("3")))
    await db.store.append(forked("b", "a", 3, said("b")))
    await db.store.append(forked("c", "b", 5, said("c")))
    await other.store.append(forked("d", "c", 2, said("d")))
    await other.store.append(forked("e", "c", 3, said("e")))
    for session, expected in {"b": "1 2 b", "c": "1 2 b c", "d": "1 d", "e": "1 2 e"}.items():
        for each in (db, other):
            assert " ".join(await texts(each, session)) == expected
        assert await verified(db, session) == 2
    assert [r.position for r in await db.store.read("c", after=1)] == [2, 3, 4, 5, 6, 7]
    assert [r.position for r in await db.store.read("d", after=1)] == [2, 3, 4]


@law
async def a_fork_needs_a_source_and_a_position_it_has(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    for position in (0, -1, 3):
        await h.refused(InvalidInput, db.store.append(forked("f", "s", position)))
    await h.refused(NotFound, db.store.append(forked("f", "nobody", 1)))
    await h.refused(NotFound, db.store.read("f"))
    await db.store.append(forked("f", "s", 2, expect=2))
    await h.refused(Conflict, db.store.append(forked("f", "s", 2)))
    await db.store.append(forked("g", "s", 1, expect=0))
    await h.refused(Conflict, db.store.append(forked("i", "s", 1, expect=2)))


@law
async def a_fork_takes_after_its_source(h: Harness) -> None:
    db = await h.open()
    summary = Summary("scribe", "v2", "lab", "ada", status="waiting", title="T", turns=3, usd_micros=9, needs="scribe")
    await db.store.append(opened("s", said("one"), summary=summary))
    await db.store.append(forked("f", "s", 2))
    row = (await db.views.session("f")).summary
    assert (row.agent, row.version, row.project, row.user, row.needs) == ("scribe", "v2", "lab", "ada", "scribe")
    assert (row.status, row.turns, row.usd_micros) == ("idle", 0, 0)
    row = await db.views.session("f")
    assert (row.head, row.epoch, row.lease_until, row.wake_at, row.fork) == (3, 0, None, None, Fork("s", 2))


@law
async def what_was_inherited_is_redacted_at_its_source(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("a secret")))
    await db.store.append(forked("f", "s", 2, said("mine")))
    error = await h.refused(InvalidInput, db.store.append(write("f", Redacted(2, "ada"))))
    assert "'s'" in error.message
    await db.store.append(write("s", Redacted(2, "ada")))
    assert await texts(db, "f") == ["[redacted]", "mine"]
    await db.store.append(write("f", Redacted(4, "ada")))
    assert await texts(db, "f") == ["[redacted]", "[redacted]"]
    assert await verified(db, "s") == 3
    assert await verified(db, "f") == 3


@law
async def a_fork_is_refused_when_its_source_was_redacted_since_it_was_read(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("a secret"), said("two")))
    await other.store.append(write("s", said("three")))
    await db.store.append(forked("f", "s", 3, seen=3))
    await other.store.append(write("s", Redacted(2, "ada")))
    for position in (1, 3):
        error = await h.refused(Conflict, db.store.append(forked("g", "s", position, seen=4)))
        assert error.reason == "redacted_meanwhile"
    await h.refused(NotFound, db.store.read("g"))
    await db.store.append(forked("g", "s", 3, seen=5))
    await db.store.append(forked("h", "s", 3))


@law
async def a_fork_of_a_frozen_session_is_frozen(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), SessionFrozen("ada"), said("two")))
    await db.store.append(forked("before", "s", 2, wake=True))
    await db.store.append(forked("after", "s", 4, wake=True))
    leases = {lease.session: lease for lease in await db.store.claim("w", now=T0, ttl_s=9, limit=9)}
    await h.refused(Frozen, db.store.append(write("after", said("x"), lease=leases["after"], effects=True)))
    await db.store.append(write("before", said("x"), lease=leases["before"], effects=True))
    await db.store.append(write("after", SessionThawed("ada")))
    await db.store.append(write("after", said("x"), lease=leases["after"], effects=True))


# --- export and import ------------------------------------------------------------------------------------------------


@law
async def a_restored_journal_is_the_one_that_was_exported(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s")
    large = said("x" * SPILL_BYTES)
    whole = write("s", large, said("a secret"), SessionFrozen("ada"), lease=lease, at=T0 + SECOND)
    await db.store.append(whole)
    await db.store.append(write("s", Redacted(4, "ada")))
    rows = await db.raw("s")
    summary = (await db.views.session("s")).summary
    await db.restore("copy", rows, summary, None)
    assert await db.raw("copy") == rows
    assert await texts(db, "copy") == await texts(db, "s")
    assert await verified(db, "copy") == 6
    row = await db.views.session("copy")
    assert (row.head, row.summary, row.lease_until, row.opened_at) == (6, summary, None, T0)
    # It goes on where it was: frozen, with epochs above those it has seen, on the same chain.
    await db.store.append(write("copy", said("more"), wake=True, expect=6))
    (taken,) = [each for each in await db.store.claim("w", now=T0, ttl_s=9, limit=9) if each.session == "copy"]
    assert taken.epoch > lease.epoch
    await h.refused(Frozen, db.store.append(write("copy", said("x"), lease=taken, effects=True)))
    assert await verified(db, "copy") == 7


@law
async def a_restored_session_that_was_at_work_is_due(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    rows = await db.raw("s")
    for status in ("idle", "queued", "in_progress", "waiting", "failed"):
        await db.restore(status, rows, Summary("scribe", "v1", "lab", status=status), None)
    leases = await db.store.claim("w", now=T0, ttl_s=9, limit=9)
    assert {lease.session for lease in leases} == {"queued", "in_progress", "waiting"}


@law
async def a_restored_session_is_never_there_without_its_budgets(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    rows, summary = await db.raw("s"), Summary("scribe", "v1", "lab", status="queued")
    brought = Budget("session:t", "tokens", 10, 7)
    await db.restore("t", rows, summary, None, [brought])
    assert await db.controls.budgets() == [brought]
    await db.controls.set_budget("session:s", "tokens", 90, at=T0)
    # Who comes too late changes nothing of a session that is there, nor of what it may spend.
    await h.refused(Conflict, db.restore("s", rows, summary, None, [Budget("session:s", "tokens", 10, 7)]))
    assert await db.controls.budgets("session:s") == [Budget("session:s", "tokens", 90)]


@law
async def a_restored_fork_stands_on_its_source(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    await db.store.append(forked("f", "s", 2, said("mine")))
    rows, row = await db.raw("f"), await db.views.session("f")
    await h.refused(NotFound, db.restore("g", rows, row.summary, Fork("nobody", 2)))
    await db.restore("g", rows, row.summary, row.fork)
    assert await texts(db, "g") == ["one", "mine"]
    assert await verified(db, "g") == 2


@law
async def a_restored_journal_replaces_nothing(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    await db.store.append(opened("t", said("kept")))
    rows, row = await db.raw("s"), await db.views.session("s")
    await h.refused(Conflict, db.restore("t", rows, row.summary, None))
    await h.refused(InvalidInput, db.restore("u", (), row.summary, None))
    assert await texts(db, "t") == ["kept"]
