"""Laws of the small tables and of what screens ask: specs, blobs, lists, projections, usage, counts."""

from __future__ import annotations

import hashlib
from typing import Any

from remanence.content import Usage
from remanence.errors import InvalidInput, NotFound
from remanence.events import Redacted
from remanence.ports import Cursor, SessionQuery, Summary, UsageQuery, UsageRow
from remanence.spec import AgentSpec, AllowRule, ToolSpec, spec_digest
from remanence.stores.usage_rows import HOUR_US
from remanence.testing.conformance.harness import SECOND, T0, Harness, forked, law, opened, said, write


@law
async def a_version_is_numbered_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    tool = ToolSpec("mail", parameters={"type": "object"}, replay="keyed")
    one = AgentSpec("scribe", "scripted:a", tools=(tool,), rules=(AllowRule("mail"),), metadata={"a": "é"})
    two = AgentSpec("scribe", "scripted:b")
    first = await db.specs.put(one, project="lab", at=T0)
    assert (first.number, first.version, first.at, first.spec) == (1, spec_digest(one), T0, one)
    second = await other.specs.put(two, project="lab", at=T0 + 1)
    assert second.number == 2
    assert await db.specs.put(one, project="lab", at=T0 + 2) == first
    clerk = await db.specs.put(AgentSpec("clerk", "scripted:a"), project="lab", at=T0 + 3)
    office = await db.specs.put(one, project="office", at=T0 + 4)
    assert (clerk.number, office.number) == (1, 1)
    assert await other.specs.versions("lab", "scribe") == [first, second]
    assert await db.specs.versions("lab") == [first, second, clerk]
    assert await db.specs.versions(None, "clerk") == [clerk]
    assert await db.specs.versions(None) == [first, second, clerk, office]
    assert await db.specs.versions("nowhere") == []
    assert await other.specs.get(first.version) == one
    await h.refused(NotFound, db.specs.get("0" * 64))


@law
async def a_blob_is_its_digest(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    for content in (b"", b"\x00\xff" * 1000, b"x" * 3_000_000):
        digest = await db.blobs.put(content)
        assert digest == hashlib.sha256(content).hexdigest()
        assert await other.blobs.put(content) == digest
        assert await other.blobs.get(digest) == content
    await h.refused(NotFound, db.blobs.get("0" * 64))
    await h.refused(NotFound, db.blobs.get("not a digest at all"))


# --- lists ------------------------------------------------------------------------------------------------------------


@law
async def a_sessions_row_says_what_the_journal_did(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    row = await db.views.session("s")
    assert row.summary == Summary("scribe", "v1", "lab", "ada", title="A title")
    assert (row.head, row.opened_at, row.updated_at, row.fork) == (2, T0, T0, None)
    summary = Summary("scribe", "v2", "lab", "ada", "waiting", "approval", "T", 7, 8, 9, "scribe")
    await db.store.append(write("s", said("two"), summary=summary, at=T0 + 5))
    row = await db.views.session("s")
    assert (row.head, row.opened_at, row.updated_at, row.summary) == (3, T0, T0 + 5, summary)
    assert (await db.store.load("s")).summary == summary


@law
async def a_row_never_becomes_older(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", at=T0 + 100 * SECOND))
    await db.store.append(opened("t", at=T0 + 50 * SECOND))
    await db.store.append(write("s", said("by a clock that is behind"), at=T0))
    row = await db.views.session("s")
    assert (row.opened_at, row.updated_at) == (T0 + 100 * SECOND, T0 + 100 * SECOND)
    assert [each.session for each in await db.views.sessions(SessionQuery())] == ["s", "t"]


@law
async def lists_show_the_newest_change_first_page_by_page(h: Harness) -> None:
    db = await h.open()
    moments = {"a": 5, "b": 200, "c": 61, "d": 200, "e": 3, "f": 130}
    for name, second in moments.items():
        await db.store.append(opened(name, at=T0 + second * SECOND))
    expected = ["d", "b", "f", "c", "a", "e"]
    assert [row.session for row in await db.views.sessions(SessionQuery())] == expected
    seen: list[str] = []
    before = None
    while page := await db.views.sessions(SessionQuery(before=before, limit=2)):
        seen += [row.session for row in page]
        before = (page[-1].updated_at, page[-1].session)
    assert seen == expected
    await db.store.append(write("e", said("again"), at=T0 + 999 * SECOND, summary=Summary("scribe", "v1", "lab")))
    assert (await db.views.sessions(SessionQuery(limit=1)))[0].session == "e"


@law
async def lists_can_be_filtered(h: Harness) -> None:
    db = await h.open()
    rows = {
        "a": Summary("scribe", "v1", "lab", "ada", "idle"),
        "b": Summary("scribe", "v1", "lab", "bob", "waiting", "approval"),
        "c": Summary("clerk", "v1", "lab", "ada", "waiting", "input"),
        "d": Summary("clerk", "v1", "office", "ada", "failed"),
    }
    for number, (name, summary) in enumerate(rows.items()):
        await db.store.append(opened(name, summary=summary, at=T0 + number))
    await db.store.append(forked("e", "a", 1, summary=rows["a"], at=T0 + 9))

    async def found(**filters: str) -> str:
        return "".join(row.session for row in await db.views.sessions(SessionQuery(**filters)))  # pyright: ignore[reportArgumentType]

    assert await found(project="lab") == "ecba"
    assert await found(agent="clerk") == "dc"
    assert await found(user="ada", project="lab") == "eca"
    assert await found(status="waiting") == "cb"
    assert await found(status="idle") == "ea"
    assert await found(status="failed") == "d"
    assert await found(waiting_on="approval") == "b"
    assert await found(parent="a") == "e"
    assert await found(parent="nobody") == ""
    assert await found(status="waiting", agent="scribe", user="bob") == "b"


@law
async def a_session_without_a_title_is_listed_with_what_was_first_said(h: Harness) -> None:
    db, untitled = await h.open(), Summary("scribe", "v1", "lab", "ada")

    async def begun() -> dict[str, str]:
        return {row.session: row.begins for row in await db.views.sessions(SessionQuery(begins=True))}

    first = said("Order 42\n  arrived broken")
    await db.store.append(opened("a", first, said("And now?"), summary=untitled))
    await db.store.append(opened("b", said("It has a title")))
    await db.store.append(opened("c", summary=untitled))
    await db.store.append(opened("d", said("long " * 100), summary=untitled))
    await db.store.append(forked("e", "a", 2, said("Another order"), summary=untitled))
    await db.store.append(forked("f", "a", 2, summary=untitled))
    found = await begun()
    assert found.pop("d").startswith("long long")
    assert found == {"a": "Order 42 arrived broken", "b": "", "c": "", "e": "Another order", "f": ""}
    assert all(not row.begins for row in await db.views.sessions(SessionQuery()))
    await db.store.append(write("a", Redacted(2, "ada")))
    assert (await begun())["a"] == "And now?"


@law
async def what_nobody_has_looked_at_is_queued(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    idle, failed = Summary("scribe", "v1", "lab", "ada"), Summary("scribe", "v1", "lab", "ada", "failed")
    doubtful = Summary("scribe", "v1", "lab", "ada", "idle", "doubt")
    for name, summary in (("a", idle), ("b", failed), ("c", idle), ("d", doubtful), ("e", failed)):
        await db.store.append(opened(name, summary=summary))

    async def found(status: str) -> str:
        rows = await other.views.sessions(SessionQuery(status=status))
        assert all(row.summary.status == status for row in rows)
        return "".join(sorted(row.session for row in rows))

    async def everywhere() -> tuple[str, ...]:
        overview = await other.screens.overview("lab", since=T0)
        stats = (await other.views.stats())["sessions"]
        listed = {status: await found(status) for status in ("idle", "failed", "queued", "in_progress")}
        assert stats == {status: len(names) for status, names in listed.items() if names}
        sums = {status: sum(many for (each, _), many in overview.counts.items() if each == status) for status in listed}
        assert sums == {status: len(names) * (status != "idle") for status, names in listed.items()}
        return tuple(listed.values())

    assert await everywhere() == ("acd", "be", "", "")
    for number, name in enumerate("abd", 1):
        await db.store.append(write(name, said("hello"), wake=True, at=T0 + number))
    assert await everywhere() == ("c", "e", "abd", "")
    assert (await other.views.session("a")).summary.status == "queued"
    assert (await other.store.load("a")).summary == idle
    # Whoever takes them may die before it writes, renewed or not, and so may the next one.
    leases = await db.store.claim("w1", now=T0 + 9, ttl_s=30, limit=9)
    assert await everywhere() == ("c", "e", "abd", "")
    await db.store.renew(leases, until=T0 + 60 * SECOND)
    assert await everywhere() == ("c", "e", "abd", "")
    assert await other.store.claim("w2", now=T0 + 60 * SECOND - 2, ttl_s=30, limit=9) == []
    claimed = await other.store.claim("w2", now=T0 + 60 * SECOND, ttl_s=30, limit=9)
    assert await everywhere() == ("c", "e", "abd", "")
    held = {lease.session: lease for lease in claimed}
    # Somebody speaks to one that is held.
    await db.store.append(write("a", said("again"), wake=True, at=T0 + 61 * SECOND))
    assert await everywhere() == ("c", "e", "abd", "")
    begun = Summary("scribe", "v1", "lab", "ada", "in_progress")
    await other.store.append(write("a", said("noted"), lease=held["a"], expect=3, summary=begun, at=T0 + 62 * SECOND))
    await other.store.append(write("b", said("noted"), lease=held["b"], expect=2, at=T0 + 62 * SECOND))
    assert await everywhere() == ("c", "be", "d", "a")
    # What a worker left for later is nothing that somebody said.
    for name, later in (("b", None), ("d", T0 + 120 * SECOND)):
        await other.store.release(held[name], seen=3, wake_at=later)
    assert await everywhere() == ("cd", "be", "", "a")


# --- projections and usage --------------------------------------------------------------------------------------------


@law
async def a_projection_is_behind_until_it_has_read_everything(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one")))
    assert await db.store.behind("usage", limit=9) == [Cursor("s", 0, 2)]
    await db.views.record_usage(Cursor("s", 0, 2), [])
    assert not await other.store.behind("usage", limit=9)
    await other.store.append(write("s", said("two"), said("three")))
    await other.store.append(forked("f", "s", 3))
    cursors = [Cursor("s", 2, 4), Cursor("f", 3, 4)]
    assert sorted(await db.store.behind("usage", limit=9), key=lambda cursor: cursor.session) == cursors[::-1]
    assert len(await db.store.behind("usage", limit=1)) == 1
    # Half way is still behind.
    await db.views.record_usage(Cursor("s", 2, 3), [])
    await db.views.record_usage(cursors[1], [])
    assert await db.store.behind("usage", limit=9) == [Cursor("s", 3, 4)]
    await db.views.record_usage(Cursor("s", 3, 4), [])
    assert not await db.store.behind("usage", limit=9)
    await db.store.append(write("s", said("four")))
    assert await db.store.behind("usage", limit=9) == [Cursor("s", 4, 5)]
    # Another projection has its own cursors.
    assert len(await other.store.behind("spans", limit=9)) == 2


@law
async def what_is_written_after_a_projection_caught_up_is_seen(h: Harness) -> None:
    db = await h.open()
    assert not await db.store.behind("usage", limit=9)
    await db.store.append(opened("s"))
    for head in range(1, 4):
        assert list(await db.store.behind("usage", limit=9)) == [Cursor("s", head - 1, head)]
        await db.views.record_usage(Cursor("s", head - 1, head), [])
        assert not await db.store.behind("usage", limit=9)
        await db.store.append(write("s", said(str(head))))


@law
async def usage_is_added_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    summary = (await db.views.session("s")).summary
    entry = (T0, summary, "m1", Usage(10, 5, 2, 1, 3), 7)
    await db.views.record_usage(Cursor("s", 0, 2), [entry, entry])
    for stale in (Cursor("s", 0, 2), Cursor("s", 1, 3), Cursor("nobody", 0, 1)):
        await other.views.record_usage(stale, [entry])
    (row,) = await db.views.usage(UsageQuery())
    assert row == UsageRow(("scribe",), 2, Usage(20, 10, 4, 2, 6), 14)
    await other.views.record_usage(Cursor("s", 2, 3), [entry])
    assert [(row.calls, row.usd_micros) for row in await db.views.usage(UsageQuery())] == [(3, 21)]


@law
async def usage_is_summed_by_what_is_asked(h: Harness) -> None:
    db = await h.open()
    ada, bob = Summary("scribe", "v1", "lab", "ada"), Summary("clerk", "v1", "office", "bob")
    day = T0 - T0 % (24 * HOUR_US)
    for name, summary in (("s", ada), ("t", bob)):
        await db.store.append(opened(name, summary=summary))
    await db.views.record_usage(
        Cursor("s", 0, 1),
        [
            (day, ada, "m1", Usage(1, 1), 10),
            (day + 25 * HOUR_US, ada, "m2", Usage(2, 2), None),
            (day, ada, "m1", Usage(1), 5),
        ],
    )
    await db.views.record_usage(Cursor("t", 0, 1), [(day + HOUR_US, bob, "m1", Usage(4, 4), 100)])

    async def sums(*by: str, project: str | None = None, since: int | None = None) -> list[tuple[object, ...]]:
        rows = await db.views.usage(UsageQuery(by, project, since))
        return sorted((*row.key, row.calls, row.usd_micros, row.unpriced_calls) for row in rows)

    assert await sums("agent") == [("clerk", 1, 100, 0), ("scribe", 3, 15, 1)]
    assert await sums("user", "model") == [("ada", "m1", 2, 15, 0), ("ada", "m2", 1, 0, 1), ("bob", "m1", 1, 100, 0)]
    assert await sums("day") == [("2026-09-21", 3, 115, 0), ("2026-09-22", 1, 0, 1)]
    assert await sums("session", "project") == [("s", "lab", 3, 15, 1), ("t", "office", 1, 100, 0)]
    assert await sums("agent", project="lab") == [("scribe", 3, 15, 1)]
    assert await sums("agent", since=day + HOUR_US) == [("clerk", 1, 100, 0), ("scribe", 1, 0, 1)]
    assert await sums() == [(4, 115, 1)]
    assert await sums(project="nowhere") == []
    await h.refused(InvalidInput, db.views.usage(UsageQuery(("colour",))))


@law
async def stats_count_what_is_there(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    await db.store.append(forked("f", "s", 2, summary=Summary("scribe", "v1", "lab", status="waiting")))
    await db.blobs.put(b"something")
    stats = await db.views.stats()
    assert stats["sessions"] == {"idle": 1, "waiting": 1}
    assert (stats["records"], stats["blobs"]) == (4, 1)
    assert stats["bytes"] > 0
    assert stats["schema"] >= 1
    assert stats["durability"]
    assert stats["backend"]


@law
async def heads_of_many_sessions_are_seen_at_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("a", said("one")))
    await other.store.append(opened("b"))
    assert await db.views.heads(["a", "nothing", "b"]) == {"a": 2, "b": 1}
    await other.store.append(write("a", said("two")))
    assert await db.views.heads([f"x{n}" for n in range(2_000)] + ["a"]) == {"a": 3}
    assert await db.views.heads([]) == {}


@law
async def sessions_are_listed_in_the_order_of_opening(h: Harness) -> None:
    db = await h.open()
    for number, name in enumerate("cabd"):
        await db.store.append(opened(name, at=T0 + number))
    gone = Summary("scribe", "v1", "lab", status="deleted")
    await db.store.append(write("a", said("late"), at=T0 + 9, summary=gone))

    async def names(**query: Any) -> str:
        return "".join(row.session for row in await db.views.sessions(SessionQuery(project="lab", **query)))

    assert await names(opened="oldest_first") == "cabd"
    assert await names(opened="newest_first", limit=3) == "dba"
    assert await names(opened="newest_first", after="b") == "ac"
    assert await names(opened="oldest_first", after="a", limit=1) == "b"
    assert await names(opened="oldest_first", without_status="deleted") == "cbd"
    assert await names(opened="newest_first", after="nothing") == ""
