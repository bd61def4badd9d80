"""Laws of races: many at once, from several databases over one storage, and the outcome is as if one after another."""

from __future__ import annotations

import asyncio

from remanence.errors import BudgetExceeded, Conflict, Fenced, Frozen, InvalidInput, NotFound, RemanenceError
from remanence.events import Recorded, Redacted, ToolStarted, chain_digest, encode_readable, payload_digest
from remanence.ports import Appended, Charge, Lease, Write
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
async def writes_at_once_all_land_without_a_gap(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    await dbs[0].store.append(opened("s"))
    writes = [write("s", said(f"{n} a"), said(f"{n} b")) for n in range(60)]
    landed = await asyncio.gather(*(dbs[n % 2].store.append(each) for n, each in enumerate(writes)))
    assert sorted(r.position for each in landed for r in each.records) == list(range(2, 122))
    for appended in landed:
        assert appended.records[1].position == appended.records[0].position + 1
    assert tuple(await dbs[0].store.read("s", after=1)) == tuple(
        sorted((r for each in landed for r in each.records), key=lambda r: r.position)
    )
    assert await verified(dbs[1], "s") == 121


@law
async def what_follows_a_write_lands_behind_it_or_not_at_all(h: Harness) -> None:
    """Pairs of writes queued together, in sessions some of which another process has just written to."""
    db, other = await h.open(), await h.open()
    names = [f"s{n}" for n in range(6)]
    last = {name: (await db.store.append(opened(name))).records[-1] for name in names}
    for number in range(8):
        late = set(names[:: number % 4 + 1] if number % 2 else [])
        await asyncio.gather(*(other.store.append(write(name, said(f"faster {number}"))) for name in late))
        pairs = [each for name in names for each in _pair(last[name], number)]
        outcomes = await asyncio.gather(*(db.store.append(each) for each in pairs), return_exceptions=True)
        for name, first, second in zip(names, outcomes[::2], outcomes[1::2], strict=True):
            assert isinstance(first, Appended), first
            assert isinstance(second, Conflict if name in late else Appended), (name, number, second)
            last[name] = (await db.store.read(name))[-1]
    for name in names:
        assert await verified(other, name) == last[name].position


def _pair(before: Recorded, number: int) -> tuple[Write, Write]:
    """A write, and one that builds on the record which that becomes when nobody is faster."""
    first = write(before.session, said(f"{number}"))
    own = payload_digest(encode_readable(first.events[0]))
    after = chain_digest(before.digest, own, position=before.position + 1, at=first.at, epoch=0, actor=first.actor)
    return first, write(before.session, said(f"{number} then"), follows=after)


@law
async def one_of_many_decisions_wins(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    await dbs[0].store.append(opened("s"))
    for head in range(1, 6):
        attempts = (dbs[n % 2].store.append(write("s", said(f"{head}-{n}"), expect=head)) for n in range(16))
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        won = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        assert len(won) == 1
        assert all(isinstance(outcome, Appended | Conflict) for outcome in outcomes)
    assert len(await texts(dbs[1], "s")) == 5


@law
async def one_of_many_openings_wins(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    attempts = (dbs[n % 2].store.append(opened("s", said(str(n)))) for n in range(12))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    assert all(isinstance(outcome, Appended | Conflict) for outcome in outcomes)
    assert await verified(dbs[0], "s") == 2


@law
async def a_refused_write_leaves_its_neighbours_alone(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await db.controls.set_budget("user:ada", "usd_micros", 10, at=T0)
    await db.controls.freeze("agent@lab:scribe", at=T0, by="ada", reason="")
    refused: list[tuple[type[RemanenceError], Write]] = [
        (Conflict, write("s", said("stale"), expect=99)),
        (NotFound, write("nobody", said("nowhere"))),
        (Conflict, opened("s")),
        (Fenced, write("s", said("zombie"), lease=Lease("s", "w", 7, T0))),
        (BudgetExceeded, write("s", said("dear"), charges=(Charge("reserve", "k", ("user:ada",), 11),))),
        (Frozen, write("s", said("an effect"), effects=True)),
        (InvalidInput, write("s", said("foreign"), Redacted(99, "ada"))),
        (InvalidInput, forked("f", "s", 999)),
    ]
    writes = [each for n, (_, one) in enumerate(refused) for each in (write("s", said(f"good {n}")), one)]
    outcomes = await asyncio.gather(*(db.store.append(each) for each in writes), return_exceptions=True)
    assert all(isinstance(outcome, Appended) for outcome in outcomes[::2])
    assert [type(outcome) for outcome in outcomes[1::2]] == [kind for kind, _ in refused]
    assert await texts(db, "s") == [f"good {n}" for n in range(len(refused))]
    assert [each.reserved for each in await db.controls.budgets("user:ada")] == [0]
    assert await verified(db, "s") == len(refused) + 1


@law
async def a_key_used_many_times_at_once_is_one_write(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    await dbs[0].store.append(opened("s"))
    same = write("s", said("once"), key="k", key_digest="d")
    outcomes = await asyncio.gather(*(dbs[n % 2].store.append(same) for n in range(10)))
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert len({outcome.records for outcome in outcomes}) == 1
    assert await texts(dbs[0], "s") == ["once"]


@law
async def claimers_never_share_a_session(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    names = {f"s{n}" for n in range(60)}
    await asyncio.gather(*(dbs[0].store.append(opened(name, wake=True)) for name in names))
    claims = (dbs[n % 2].store.claim(f"w{n}", now=T0 + SECOND, ttl_s=30.0, limit=7) for n in range(12))
    leases = [lease for given in await asyncio.gather(*claims) for lease in given]
    assert len(leases) == 60
    assert {lease.session for lease in leases} == names
    assert {lease.epoch for lease in leases} == {1}


@law
async def a_budget_is_never_overshot(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    for n in range(4):
        await dbs[0].store.append(opened(f"s{n}"))
    await dbs[0].controls.set_budget("project:lab", "usd_micros", 100, at=T0)

    async def turn(n: int) -> bool:
        db = dbs[n % 2]
        try:
            charge = Charge("reserve", f"k{n}", ("project:lab", "agent:scribe"), 10)
            await db.store.append(write(f"s{n % 4}", said("x"), charges=(charge,)))
        except BudgetExceeded:
            return False
        if n % 3 == 0:
            charge = Charge("settle", f"k{n}", ("project:lab", "agent:scribe"), 10)
            await db.store.append(write(f"s{n % 4}", said("y"), charges=(charge,)))
        return True

    won = await asyncio.gather(*(turn(n) for n in range(40)))
    assert sum(won) == 10
    (left,) = await dbs[1].controls.budgets("project:lab")
    assert left.spent + left.reserved == 100
    assert left.spent == 10 * sum(ok for n, ok in enumerate(won) if n % 3 == 0)


@law
async def no_effect_slips_past_a_freeze(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    leases = [await leased(dbs[0], f"s{n}") for n in range(8)]
    started: list[tuple[str, int]] = []
    running = asyncio.Event()

    async def drive(number: int, lease: Lease) -> None:
        for step in range(20):
            event = ToolStarted(f"c{step}", "mail", f"{lease.session}:1:c{step}", "never")
            try:
                done = await dbs[number % 2].store.append(write(lease.session, event, lease=lease, effects=True))
            except Frozen:
                return
            started.append((lease.session, done.head))
            if len(started) >= 10:
                running.set()

    drivers = [asyncio.create_task(drive(number, lease)) for number, lease in enumerate(leases)]
    await running.wait()
    hold = await dbs[0].controls.freeze("all", at=T0, by="ada", reason="stop")
    heads = {lease.session: (await dbs[1].views.session(lease.session)).head for lease in leases}
    await asyncio.gather(*drivers)
    # What the freeze names as the last is there, and nothing came after it was acknowledged.
    assert hold.last_effect in started
    assert {lease.session: (await dbs[0].views.session(lease.session)).head for lease in leases} == heads
    for session, head in heads.items():
        assert len([each for each in started if each[0] == session]) == head - 2


@law
async def an_input_and_a_release_never_miss_each_other(h: Harness) -> None:
    dbs = [await h.open(), await h.open()]
    lease = await leased(dbs[0], "s")
    for n in range(20):
        head = (await dbs[0].views.session("s")).head
        spoken, released = await asyncio.gather(
            dbs[1].store.append(write("s", said(str(n)), wake=True)),
            dbs[0].store.release(lease, seen=head, wake_at=None),
            return_exceptions=True,
        )
        assert isinstance(spoken, Appended)
        assert released is None or isinstance(released, Conflict)
        # Either the release was refused, or the session is due.
        (taken,) = await dbs[0].store.claim("w1", now=T0, ttl_s=30.0, limit=9)
        assert taken.epoch == lease.epoch + (0 if isinstance(released, Conflict) else 1)
        lease = taken
