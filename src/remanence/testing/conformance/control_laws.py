"""Laws of budgets and freezes: never overshot, never slipped past."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from remanence.errors import BudgetExceeded, Conflict, Frozen, InvalidInput, NotFound
from remanence.events import SessionFrozen, SessionThawed, ToolStarted
from remanence.ports import Budget, Charge, Database, Entry, EntryQuery, Lease, Summary
from remanence.testing.conformance.harness import SECOND, T0, Harness, law, leased, opened, said, texts, write


async def spend(db: Database, *charges: Charge, text: str = "x") -> None:
    """A write with these charges."""
    await db.store.append(write("s", said(text), charges=charges))


async def budget(db: Database, scope: str, unit: str = "usd_micros") -> tuple[int, int, int]:
    """(limit, spent, reserved) of one budget."""
    (found,) = [each for each in await db.controls.budgets(scope) if each.unit == unit]
    return found.limit, found.spent, found.reserved


def reserve(key: str, *scopes: str, usd: int = 0, tokens: int = 0) -> Charge:
    return Charge("reserve", key, scopes, usd, tokens)


def settle(key: str, *scopes: str, usd: int = 0, tokens: int = 0) -> Charge:
    return Charge("settle", key, scopes, usd, tokens)


@law
async def a_budget_is_reserved_then_settled(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    made = await db.controls.set_budget("agent:scribe", "usd_micros", 100, at=T0)
    assert made == Budget("agent:scribe", "usd_micros", 100)
    await spend(db, reserve("k1", "agent:scribe", usd=60))
    assert await budget(other, "agent:scribe") == (100, 0, 60)
    await spend(other, settle("k1", "agent:scribe", usd=25))
    assert await budget(db, "agent:scribe") == (100, 25, 0)
    # Exactly what is left may be reserved, and what really was spent may be more than that.
    await spend(db, reserve("k2", "agent:scribe", usd=75))
    await spend(db, settle("k2", "agent:scribe", usd=80))
    assert await budget(db, "agent:scribe") == (100, 105, 0)


@law
async def an_overshooting_reservation_writes_nothing(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await db.controls.set_budget("user:ada", "usd_micros", 100, at=T0)
    await db.controls.set_budget("project:lab", "tokens", 50, at=T0)
    await spend(db, reserve("k1", "user:ada", "project:lab", usd=60, tokens=40))
    error = await h.refused(BudgetExceeded, spend(db, reserve("k2", "user:ada", usd=41), text="no"))
    assert (error.scope, error.unit, error.limit, error.used, error.needed) == ("user:ada", "usd_micros", 100, 60, 41)
    # The second scope refuses: the first must not keep a trace.
    error = await h.refused(BudgetExceeded, spend(db, reserve("k2", "user:ada", "project:lab", usd=1, tokens=11)))
    assert (error.scope, error.unit) == ("project:lab", "tokens")
    both = (reserve("k3", "user:ada", usd=30), reserve("k4", "user:ada", usd=30))
    await h.refused(BudgetExceeded, spend(db, *both))
    assert await budget(db, "user:ada") == (100, 0, 60)
    assert await budget(db, "project:lab", "tokens") == (50, 0, 40)
    assert await texts(db, "s") == ["x"]
    # A refused settlement gives nothing back either.
    await h.refused(BudgetExceeded, spend(db, settle("k1", "user:ada", usd=60), reserve("k2", "user:ada", usd=41)))
    await spend(db, reserve("k2", "user:ada", usd=40))
    await spend(db, settle("k1", "user:ada", "project:lab", usd=1, tokens=1))
    assert await budget(db, "user:ada") == (100, 1, 40)
    assert await budget(db, "project:lab", "tokens") == (50, 1, 0)


@law
async def a_reservation_belongs_to_its_key(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await db.controls.set_budget("user:ada", "tokens", 100, at=T0)
    await spend(db, reserve("k", "user:ada", tokens=80))
    # A second attempt under the same key replaces what the first set aside.
    await spend(other, reserve("k", "user:ada", tokens=90))
    assert await budget(db, "user:ada", "tokens") == (100, 0, 90)
    await spend(db, reserve("k", "user:ada", tokens=10), settle("k", "user:ada", tokens=7))
    assert await budget(db, "user:ada", "tokens") == (100, 7, 0)
    await spend(db, settle("k", "user:ada", tokens=3))
    assert await budget(db, "user:ada", "tokens") == (100, 10, 0)
    # Settled with nothing spent: given back.
    await spend(db, reserve("k", "user:ada", tokens=50))
    await spend(db, settle("k", "user:ada"))
    assert await budget(db, "user:ada", "tokens") == (100, 10, 0)


@law
async def only_scopes_with_a_budget_are_counted(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await spend(db, reserve("k0", "user:ada", usd=10**12, tokens=10**12))
    await db.controls.set_budget("session:s", "usd_micros", 10, at=T0)
    await spend(db, reserve("k1", "session:s", "user:ada", usd=10, tokens=10**12))
    assert [(each.scope, each.reserved) for each in await db.controls.budgets()] == [("session:s", 10)]
    await spend(db, settle("k0", "user:ada", usd=5))
    assert await db.controls.budgets("user:ada") == []


@law
async def a_session_comes_with_its_limits(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    tokens, usd = Budget("session:s", "tokens", 50), Budget("session:s", "usd_micros", 7)
    first = opened("s", limits=(tokens,), key="once", key_digest="d")
    await db.store.append(first)
    assert await other.controls.budgets() == [tokens]
    await h.refused(BudgetExceeded, spend(other, reserve("k", "session:s", tokens=51)))
    await h.refused(BudgetExceeded, spend(db, reserve("k", "session:s", tokens=51)))
    # What stands stays, whatever comes along, and what is refused brings nothing.
    await h.refused(Conflict, db.store.append(write("s", said("x"), expect=9, limits=(usd,))))
    assert await other.controls.budgets() == [tokens]
    await spend(db, reserve("k", "session:s", tokens=50))
    more = write("s", said("x"), limits=(replace(tokens, limit=90), usd))
    await other.store.append(more)
    assert await db.controls.budgets() == [replace(tokens, reserved=50), usd]
    await h.refused(BudgetExceeded, spend(db, reserve("k2", "session:s", usd=8)))
    await db.controls.set_budget("session:s", "usd_micros", 9, at=T0)
    assert (await other.store.append(first)).replayed
    assert await other.controls.budgets() == [replace(tokens, reserved=50), replace(usd, limit=9)]


@law
async def a_raised_budget_keeps_what_was_spent(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await db.controls.set_budget("user:ada", "usd_micros", 10, at=T0)
    await spend(db, reserve("a", "user:ada", usd=4), settle("b", "user:ada", usd=6))
    await h.refused(BudgetExceeded, spend(db, reserve("c", "user:ada", usd=1)))
    raised = await other.controls.set_budget("user:ada", "usd_micros", 20, at=T0 + 1)
    assert raised == Budget("user:ada", "usd_micros", 20, 6, 4)
    await spend(db, reserve("c", "user:ada", usd=10))
    await other.controls.set_budget("user:ada", "usd_micros", 5, at=T0 + 2)
    await h.refused(BudgetExceeded, spend(db, reserve("d", "user:ada", usd=1)))
    await spend(db, reserve("d", "user:ada"))


@law
async def those_who_raise_a_budget_at_once_each_add_their_own(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await h.refused(NotFound, db.controls.raise_budget("user:ada", "tokens", by=1, at=T0))
    await db.controls.set_budget("user:ada", "tokens", 10, at=T0)
    await spend(db, reserve("a", "user:ada", tokens=4), settle("b", "user:ada", tokens=6))
    raises = [one.controls.raise_budget("user:ada", "tokens", by=by, at=T0 + 1) for one, by in ((db, 3), (other, 5))]
    assert max((await asyncio.gather(*raises)), key=lambda found: found.limit) == Budget("user:ada", "tokens", 18, 6, 4)
    await other.controls.raise_budget("user:ada", "tokens", to=30, at=T0 + 2)
    # A raise to less than there is by now takes nothing away.
    assert (await db.controls.raise_budget("user:ada", "tokens", to=20, at=T0 + 2)).limit == 30
    await spend(db, reserve("c", "user:ada", tokens=20))


@law
async def a_budget_is_changed_with_its_mark_or_not_at_all(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    first, second = (Entry("mark", "default", name, T0, T0, b"1") for name in ("first", "second"))
    await h.refused(NotFound, db.controls.raise_budget("user:ada", "tokens", by=1, at=T0, mark=first))
    await db.controls.set_budget("user:ada", "tokens", 10, at=T0, mark=first)
    await h.refused(Conflict, other.controls.set_budget("user:ada", "tokens", 90, at=T0, mark=first))
    assert (await other.controls.raise_budget("user:ada", "tokens", by=5, at=T0, mark=second)).limit == 15
    await h.refused(Conflict, db.controls.raise_budget("user:ada", "tokens", by=5, at=T0, mark=second))
    assert await budget(other, "user:ada", "tokens") == (15, 0, 0)
    assert [entry.id for entry in await db.registry.list(EntryQuery("mark"))] == ["first", "second"]


@law
async def a_freeze_stands_with_its_mark_or_not_at_all(h: Harness) -> None:
    db, mark = await h.open(), Entry("mark", "default", "first", T0, T0, b"1")
    await db.controls.freeze("all", at=T0, by="ada", reason="look", mark=mark)
    await db.controls.thaw("all", at=T0)
    await h.refused(Conflict, db.controls.freeze("all", at=T0, by="ada", reason="look", mark=mark))
    assert await db.controls.holds() == []


@law
async def a_budget_that_moves_here_brings_its_use_along(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    made = await db.controls.set_budget("user:ada", "tokens", 10, at=T0, spent=8)
    assert made == Budget("user:ada", "tokens", 10, 8, 0)
    await h.refused(BudgetExceeded, spend(db, reserve("a", "user:ada", tokens=3)))
    await spend(db, reserve("a", "user:ada", tokens=2))
    assert await budget(db, "user:ada", "tokens") == (10, 8, 2)


# --- freezes ----------------------------------------------------------------------------------------------------------


def effect(lease: Lease, number: int = 1) -> ToolStarted:
    return ToolStarted(f"call-{number}", "mail", f"{lease.session}:1:call-{number}", "never")


async def start(db: Database, lease: Lease, number: int = 1) -> int:
    """Journal the intent of an effect; returns its position."""
    intent = write(lease.session, said("note"), effect(lease, number), lease=lease, effects=True)
    return (await db.store.append(intent)).head


@law
async def under_a_freeze_no_effect_starts_and_all_else_goes_on(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s")
    last = await start(db, lease)
    for scope in ("all", "project:lab", "agent@lab:scribe"):
        hold = await other.controls.freeze(scope, at=T0 + 1, by="ada", reason="why not")
        assert (hold.scope, hold.at, hold.by, hold.reason) == (scope, T0 + 1, "ada", "why not")
        assert hold.last_effect == ("s", last)
        assert await db.controls.holds() == [hold]
        await h.refused(Frozen, start(db, lease))
        last = (await db.store.append(write("s", said("a fact"), lease=lease))).head
        await db.store.append(opened(f"under {scope}", wake=True))
        await other.controls.thaw(scope, at=T0 + 2)
        assert await db.controls.holds() == []
        last = await start(db, lease)


@law
async def a_freeze_reaches_only_what_is_under_it(h: Harness) -> None:
    db = await h.open()
    lease = await leased(db, "s")
    first = await start(db, lease)
    elsewhere = Summary("clerk", "v1", "office")
    await db.store.append(opened("t", wake=True, summary=elsewhere))
    (away,) = await db.store.claim("w1", now=T0, ttl_s=30.0, limit=9)
    second = await start(db, away)
    assert (await db.controls.freeze("agent@lab:scribe", at=T0, by="ada", reason="")).last_effect == ("s", first)
    assert (await db.controls.freeze("project:office", at=T0, by="ada", reason="")).last_effect == ("t", second)
    assert (await db.controls.freeze("agent:nobody", at=T0, by="ada", reason="")).last_effect is None
    await h.refused(Frozen, start(db, lease))
    await h.refused(Frozen, start(db, away))
    await db.controls.thaw("project:office", at=T0)
    third = await start(db, away)
    assert (await db.controls.freeze("all", at=T0, by="ada", reason="")).last_effect == ("t", third)
    await h.refused(Frozen, start(db, away))
    await db.controls.thaw("all", at=T0)
    await h.refused(Frozen, start(db, lease))
    assert [hold.scope for hold in await db.controls.holds()] == ["agent:nobody", "agent@lab:scribe"]


@law
async def a_freeze_of_an_agent_stays_in_its_project(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    leases = {"lab": await leased(db, "s")}
    last = {"lab": await start(db, leases["lab"])}
    for project in ("default", "a:b", "a%3Ab"):
        summary = Summary("scribe", "v1", project, status="in_progress")
        await db.store.append(opened(project, wake=True, summary=summary))
        (leases[project],) = await db.store.claim("w1", now=T0, ttl_s=30.0, limit=9)
        last[project] = await start(db, leases[project])
    scopes = {"lab": "agent@lab:scribe", "default": "agent:scribe", "a:b": "agent@a%3Ab:scribe"}
    for project, scope in scopes.items():
        hold = await other.controls.freeze(scope, at=T0, by="ada", reason="")
        assert hold.last_effect == (leases[project].session, last[project])
        for each, lease in leases.items():
            if each == project:
                await h.refused(Frozen, start(db, lease))
            else:
                last[each] = await start(db, lease)
        await other.controls.thaw(scope, at=T0)
        last[project] = await start(db, leases[project])
    # A thaw wakes those that its freeze stopped, and nobody else.
    for lease in leases.values():
        await db.store.release(lease, seen=(await db.views.session(lease.session)).head, wake_at=None)
    await other.controls.freeze("agent@a%3Ab:scribe", at=T0, by="ada", reason="")
    await other.controls.thaw("agent@a%3Ab:scribe", at=T0)
    assert [lease.session for lease in await db.store.claim("w1", now=T0, ttl_s=30.0, limit=9)] == ["a:b"]


@law
async def a_freeze_that_stands_is_kept(h: Harness) -> None:
    db = await h.open()
    first = await db.controls.freeze("all", at=T0, by="ada", reason="first")
    assert await db.controls.freeze("all", at=T0 + 1, by="bob", reason="second") == first
    await db.controls.thaw("all", at=T0 + 2)
    await h.refused(NotFound, db.controls.thaw("all", at=T0 + 3))
    for scope in ("", "session:s", "agent:", "everything", "agent@default:x", "agent@a:", "agent@a%:x", "project@a:x"):
        await h.refused(InvalidInput, db.controls.freeze(scope, at=T0, by="ada", reason=""))


@law
async def a_thaw_makes_due_what_was_at_work(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    for status in ("queued", "in_progress", "waiting", "idle", "failed"):
        await db.store.append(opened(status, summary=Summary("scribe", "v1", "lab", status=status)))
    await db.store.append(opened("away", summary=Summary("clerk", "v1", "lab", status="waiting")))
    await db.store.append(opened("held", wake=True, summary=Summary("scribe", "v1", "lab", status="in_progress")))
    (held,) = await db.store.claim("w1", now=T0, ttl_s=30.0, limit=9)
    await other.controls.freeze("agent@lab:scribe", at=T0, by="ada", reason="")
    assert await db.store.claim("w2", now=T0 + SECOND, ttl_s=30.0, limit=9) == []
    await other.controls.thaw("agent@lab:scribe", at=T0 + SECOND)
    leases = await db.store.claim("w2", now=T0 + SECOND, ttl_s=30.0, limit=9)
    assert {lease.session for lease in leases} == {"queued", "in_progress", "waiting"}
    await start(db, held)


@law
async def what_is_asked_for_may_be_refused_under_a_freeze(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s"))
    await other.store.append(write("s", SessionFrozen("ada")))
    await db.store.append(write("s", said("it waits for the session"), unless_frozen=True))
    for scope in ("agent@lab:scribe", "project:lab", "all"):
        await other.controls.freeze(scope, at=T0, by="ada", reason="")
        await h.refused(Frozen, db.store.append(write("s", said("nobody answers"), unless_frozen=True)))
        await db.store.append(write("s", said(f"a fact under {scope}")))
        await other.controls.thaw(scope, at=T0)
    await db.store.append(write("s", said("answered again"), unless_frozen=True))
    assert len(await texts(db, "s")) == 5
    assert (await other.controls.freeze("all", at=T0, by="ada", reason="")).last_effect is None


@law
async def a_session_is_frozen_by_an_event_of_its_own(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    lease = await leased(db, "s")
    free = await leased(db, "t")
    await other.store.append(write("s", SessionFrozen("ada", "looks odd")))
    await h.refused(Frozen, start(db, lease))
    await start(db, free)
    await db.store.append(write("s", said("a fact"), lease=lease))
    await db.store.append(write("s", SessionThawed("ada"), SessionFrozen("ada")))
    await h.refused(Frozen, start(other, lease))
    await other.store.append(write("s", SessionThawed("ada")))
    await start(db, lease)
