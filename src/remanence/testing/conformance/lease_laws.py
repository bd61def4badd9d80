"""Laws of leases: one holder at a time, zombies change nothing, nobody who was spoken to is forgotten."""

from __future__ import annotations

import asyncio

from remanence.errors import Conflict, Fenced
from remanence.ports import Database, Release, Summary
from remanence.stores.rows import LEASE_FAR_US
from remanence.stores.unseen import MARK_US
from remanence.testing.conformance.harness import SECOND, T0, Harness, law, leased, opened, said, texts, write


async def claimed(database: Database, worker: str, now: int, limit: int = 100) -> list[tuple[str, int]]:
    """What a claim for 30 seconds gives: (session, epoch) in its order."""
    leases = await database.store.claim(worker, now=now, ttl_s=30.0, limit=limit)
    assert all(lease.worker == worker for lease in leases)
    return [(lease.session, lease.epoch) for lease in leases]


@law
async def only_who_was_spoken_to_is_claimed_and_by_one(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("quiet", said("hello")))
    await db.store.append(opened("s", said("hello"), wake=True))
    assert await claimed(other, "w2", T0 - 1) == []
    (lease,) = await db.store.claim("w1", now=T0, ttl_s=30.0, limit=10)
    assert (lease.session, lease.worker, lease.epoch, lease.until) == ("s", "w1", 1, T0 + 30 * SECOND)
    assert await claimed(db, "w2", T0) == []
    assert await claimed(other, "w2", T0 + 29 * SECOND) == []
    row = await db.views.session("s")
    assert (row.epoch, row.lease_until, row.wake_at) == (1, lease.until, lease.until - MARK_US)
    appended = await db.store.append(write("s", said("x"), lease=lease))
    assert appended.records[0].epoch == 1


@law
async def claims_are_oldest_first_and_limited(h: Harness) -> None:
    db = await h.open()
    for name, at in (("c", 3), ("a", 1), ("e", 5), ("d", 4), ("b", 2)):
        await db.store.append(opened(name, wake=True, at=T0 + at))
    assert await claimed(db, "w1", T0 + 4, limit=2) == [("a", 1), ("b", 1)]
    assert await claimed(db, "w2", T0 + 4, limit=9) == [("c", 1), ("d", 1)]
    assert await claimed(db, "w2", T0 + 5, limit=0) == []
    assert await claimed(db, "w2", T0 + 5) == [("e", 1)]


@law
async def a_zombie_is_fenced(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    old = await leased(db, "s", "w1")
    later = old.until + 1
    assert await claimed(other, "w2", later) == [("s", 2)]
    await h.refused(Fenced, db.store.append(write("s", said("zombie"), lease=old)))
    await h.refused(Fenced, db.store.append(write("s", said("zombie"), lease=old, release=Release())))
    await h.refused(Fenced, db.store.release(old, seen=99, wake_at=None))
    assert await db.store.renew([old], until=later + SECOND) == []
    assert await texts(db, "s") == ["hello"]
    assert (await db.views.session("s")).lease_until == later + 30 * SECOND


@law
async def a_worker_that_comes_back_under_its_name_gets_a_new_epoch(h: Harness) -> None:
    db = await h.open()
    old = await leased(db, "s", "w1")
    (lease,) = await db.store.claim("w1", now=old.until + 1, ttl_s=30.0, limit=1)
    assert lease.epoch == 2
    await h.refused(Fenced, db.store.append(write("s", said("from before"), lease=old)))
    await h.refused(Fenced, db.store.release(old, seen=99, wake_at=None))
    assert await db.store.renew([old], until=lease.until + SECOND) == []
    assert (await db.views.session("s")).lease_until == lease.until
    await db.store.append(write("s", said("now"), lease=lease))


@law
async def a_late_fact_lands_while_nobody_else_came(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s", "w1")
    late = lease.until + 60 * SECOND
    await db.store.append(write("s", said("late"), lease=lease, at=late))
    assert await texts(db, "s") == ["hello", "late"]
    assert await claimed(other, "w2", late) == [("s", 2)]


@law
async def a_lease_given_back_is_gone(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s")
    await db.store.append(write("s", said("done"), lease=lease, expect=2, release=Release()))
    row = await db.views.session("s")
    assert (row.lease_until, row.wake_at, row.epoch) == (None, None, 1)
    await h.refused(Fenced, db.store.append(write("s", said("after"), lease=lease)))
    await h.refused(Fenced, db.store.release(lease, seen=3, wake_at=None))
    assert await db.store.renew([lease], until=lease.until + SECOND) == []
    assert await claimed(db, "w2", lease.until + SECOND) == []
    await db.store.append(write("s", said("again"), wake=True))
    assert await claimed(db, "w2", T0) == [("s", 2)]


@law
async def a_renewed_lease_holds_longer(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s")
    longer = lease.until + 30 * SECOND
    (renewed,) = await db.store.renew([lease], until=longer)
    assert (renewed.epoch, renewed.until) == (lease.epoch, longer)
    assert await claimed(other, "w2", lease.until + 1) == []
    await db.store.append(write("s", said("under the old value"), lease=lease))
    assert await claimed(other, "w2", longer) == [("s", 2)]


@law
async def a_lease_lasts_ten_minutes_at_most(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s", ttl_s=7200.0)
    assert lease.until == T0 + 600 * SECOND


@law
async def a_release_that_missed_an_input_is_refused(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s")
    await other.store.append(write("s", said("one more thing"), wake=True))
    await h.refused(Conflict, db.store.release(lease, seen=2, wake_at=None))
    stale = write("s", said("done"), lease=lease, expect=2, release=Release())
    await h.refused(Conflict, db.store.append(stale))
    assert (await db.views.session("s")).lease_until == lease.until
    await db.store.release(lease, seen=3, wake_at=None)
    assert await claimed(other, "w2", lease.until) == []


@law
async def a_timer_makes_a_session_due_when_it_says(h: Harness) -> None:
    db = await h.open()
    due = T0 + 3600 * SECOND
    lease = await leased(db, "s")
    await db.store.release(lease, seen=2, wake_at=due)
    lease = await leased(db, "t", "w2")
    await db.store.append(write("t", said("parked"), lease=lease, expect=2, release=Release(wake_at=due + 1)))
    assert await claimed(db, "w1", due - 1) == []
    assert await claimed(db, "w1", due) == [("s", 2)]
    # Being spoken to comes first.
    await db.store.append(write("t", said("wake up"), wake=True, at=due - 5))
    assert await claimed(db, "w1", due) == [("t", 2)]


@law
async def the_holder_of_a_woken_session_is_told_and_nobody_else(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s", "w1")
    assert await claimed(db, "w1", T0 + SECOND) == []
    await other.store.append(write("s", said("psst"), wake=True, at=T0 + SECOND))
    assert await claimed(other, "w2", T0 + SECOND) == []
    assert await claimed(db, "w1", T0 + SECOND) == [("s", lease.epoch)]
    assert await claimed(db, "w1", T0 + SECOND) == []
    await db.store.append(write("s", said("still ours"), lease=lease))


@law
async def a_fact_or_a_renewal_does_not_hide_a_wake_up(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s", "w1")
    await db.store.append(write("s", said("psst"), wake=True, at=T0 + SECOND))
    await db.store.append(write("s", said("a fact, written blindly"), lease=lease, at=T0 + 2 * SECOND))
    (lease,) = await db.store.renew([lease], until=lease.until + SECOND)
    assert await claimed(db, "w1", T0 + 2 * SECOND) == [("s", 1)]
    await db.store.append(write("s", said("psst again"), wake=True, at=T0 + 3 * SECOND))
    await db.store.append(write("s", said("another fact"), lease=lease, release=Release()))
    assert await claimed(db, "w2", T0 + 3 * SECOND) == [("s", 2)]


@law
async def who_is_told_otherwise_is_not_woken(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s", "w1")
    await db.store.append(write("s", said("told"), wake=True, wake_unless="w1", at=T0 + SECOND))
    assert await claimed(db, "w1", T0 + SECOND) == []
    await h.refused(Conflict, db.store.release(lease, seen=2, wake_at=None))
    # Somebody else's lease, an old one and none at all do not count.
    await db.store.append(write("s", said("not told"), wake=True, wake_unless="w2", at=T0 + SECOND))
    (lease,) = await db.store.claim("w1", now=T0 + SECOND, ttl_s=30.0, limit=9)
    late = lease.until + 31 * SECOND
    await db.store.append(write("s", said("too late"), wake=True, wake_unless="w1", at=late))
    assert await claimed(db, "w2", late) == [("s", 2)]
    await db.store.append(opened("t", wake=True, wake_unless="w1"))
    assert await claimed(db, "w1", T0) == [("t", 1)]


@law
async def a_decision_that_has_seen_everything_clears_the_wake_up(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s", "w1")
    await db.store.append(write("s", said("psst"), wake=True, at=T0 + SECOND))
    await db.store.append(write("s", said("seen"), lease=lease, expect=3, at=T0 + 2 * SECOND))
    assert await claimed(db, "w1", T0 + 2 * SECOND) == []
    assert (await db.views.session("s")).wake_at == lease.until


@law
async def a_worker_gets_what_it_can_run(h: Harness) -> None:
    db = await h.open()
    for number, needs in enumerate(("", "scribe", "clerk")):
        summary = Summary(needs or "any", "v1", "lab", needs=needs)
        await db.store.append(opened(f"s{number}", wake=True, summary=summary, at=T0 + number))

    async def names(agents: list[str] | None) -> list[str]:
        leases = await db.store.claim("w", now=T0 + 9, ttl_s=30.0, limit=9, agents=agents)
        for lease in leases:
            await db.store.release(lease, seen=99, wake_at=(await db.views.session(lease.session)).opened_at)
        return [lease.session for lease in leases]

    assert await names([]) == ["s0"]
    assert await names(["clerk"]) == ["s0", "s2"]
    assert await names(["clerk", "scribe"]) == ["s0", "s1", "s2"]
    assert await names(None) == ["s0", "s1", "s2"]
    # What a session needs may change with its version.
    await db.store.append(write("s1", said("upgraded"), summary=Summary("scribe", "v2", "lab"), at=T0 + 1))
    assert await names([]) == ["s0", "s1"]


@law
async def a_clock_that_goes_back_strands_nobody(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    before = await leased(db, "s", "w1", now=T0)
    back = T0 - 2 * LEASE_FAR_US
    assert await claimed(other, "w2", before.until - LEASE_FAR_US) == []
    assert await claimed(other, "w2", back) == [("s", 2)]
    await h.refused(Fenced, db.store.append(write("s", said("zombie"), lease=before)))


@law
async def a_lease_from_before_the_clock_went_back_is_nobodys(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    summary = Summary("scribe", "v1", "lab", needs="scribe")
    await db.store.append(opened("s", wake=True, summary=summary))
    assert await claimed(db, "w1", T0) == [("s", 1)]
    back = T0 - 2 * LEASE_FAR_US
    assert not await other.store.claim("w2", now=back, ttl_s=30.0, limit=9, agents=["clerk"])
    # Its own holder cannot tell it from somebody else's either.
    assert await claimed(db, "w1", back) == [("s", 2)]


@law
async def waiting_ends_when_something_is_due(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await claimed(db, "w1", T0)
    for speaker in (db, other):
        waiting = asyncio.create_task(db.store.wait(timeout_s=60.0))
        await asyncio.sleep(0)
        await speaker.store.append(write("s", said("psst"), wake=True))
        async with asyncio.timeout(10.0):
            await waiting
        assert [session for session, _ in await claimed(db, "w1", T0)] == ["s"]
        row = await db.views.session("s")
        (lease,) = await db.store.claim("w1", now=row.lease_until or 0, ttl_s=30.0, limit=1)
        await db.store.release(lease, seen=row.head, wake_at=None)


@law
async def waiting_ends_when_another_process_spoke_just_before_this_one(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await db.store.append(opened("t"))
    await claimed(db, "w1", T0)
    waiting = asyncio.create_task(db.store.wait(timeout_s=60.0))
    await asyncio.sleep(0)
    await other.store.append(write("s", said("psst"), wake=True))
    await db.store.append(write("t", said("something else")))
    async with asyncio.timeout(10.0):
        await waiting
    assert await claimed(db, "w1", T0) == [("s", 1)]


@law
async def what_became_due_before_waiting_is_not_missed(h: Harness) -> None:
    db = await h.open()
    await claimed(db, "w1", T0)
    await db.store.append(opened("s", wake=True))
    async with asyncio.timeout(10.0):
        await db.store.wait(timeout_s=60.0)
    assert await claimed(db, "w1", T0) == [("s", 1)]


@law
async def waiting_ends_by_itself(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await claimed(db, "w1", T0)
    async with asyncio.timeout(10.0):
        await db.store.wait(timeout_s=0.1)
        await db.store.wait(timeout_s=0.0)
