"""Laws of what screens ask: filters, orders, search, tags, doubts and sums."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from remanence.core.words import wanted, words_of
from remanence.errors import NotFound
from remanence.events import Redacted
from remanence.ports import Cursor, Database, SessionQuery, Summary
from remanence.screens import (
    PIECE_RECORDS,
    SCREENS,
    STRETCH_BYTES,
    Behind,
    Budgets,
    Found,
    Minute,
    Opened,
    Overview,
    Place,
    Search,
    Seen,
    Sessions,
    Sums,
    Tag,
    Tags,
    Uses,
    VersionUse,
    Waiting,
)
from remanence.spec import AgentSpec
from remanence.testing.conformance.harness import SECOND, T0, Harness, forked, law, opened, said, write

MINUTE = 60 * SECOND


async def seen(db: Database, session: str, seen: Seen = Seen()) -> None:  # noqa: B008 - a frozen value
    """Bring the projection up to date for one session, with what was seen."""
    (cursor,) = [each for each in await db.store.behind(SCREENS, limit=99) if each.session == session]
    await db.screens.record(cursor, seen)


async def spoken(db: Database, session: str, *texts: str, **more: Any) -> None:
    """A session in which this was said, and is found."""
    await db.store.append(opened(session, *(said(text) for text in texts), **more))
    words = tuple((position, words_of(text, 99)) for position, text in enumerate(texts, 2))
    await seen(db, session, Seen(words=words))


async def found(db: Database, text: str, **filters: Any) -> list[tuple[str, int]]:
    """What a search finds: sessions and positions."""
    words, prefix = wanted(text)
    wish: dict[str, Any] = {"project": "lab", **filters}
    query = SessionQuery(**wish)
    return [(hit.row.session, hit.position) for hit in await db.screens.search(Search(words, prefix, query))]


# --- lists ------------------------------------------------------------------------------------------------------------


@law
async def whoever_goes_round_comes_to_every_session(h: Harness) -> None:
    db = await h.open()
    names = ["d", "b", "a", "c"]  # in the order they are opened, which is not that of their names
    for name in names:
        await db.store.append(opened(name))
    assert [cursor.session for cursor in await db.store.behind(SCREENS, limit=9)] == names
    assert [cursor.session for cursor in await db.store.behind(SCREENS, limit=2, after="b")] == ["a", "c"]
    assert not await db.store.behind(SCREENS, limit=2, after="c")
    assert [cursor.session for cursor in await db.store.behind(SCREENS, limit=1, after="nobody")] == ["d"]


@law
async def a_version_is_told_by_its_number_in_its_agent_and_project(h: Harness) -> None:
    db = await h.open()
    for project, spec in (
        ("lab", AgentSpec("scribe", "scripted")),
        ("lab", AgentSpec("scribe", "scripted", "Be brief.")),
        ("lab", AgentSpec("clerk", "scripted")),
        ("shop", AgentSpec("clerk", "scripted", "Sell.")),
    ):
        pinned = await db.specs.put(spec, project=project, at=T0)
        summary = Summary(spec.name, pinned.version, project)
        await db.store.append(opened(f"{project}_{spec.name}_{pinned.number}", summary=summary))

    async def names(**filters: Any) -> list[str]:
        return sorted(row.session for row in await db.views.sessions(SessionQuery(**filters)))

    assert await names(agent="scribe", version_number=2) == ["lab_scribe_2"]
    assert await names(agent="scribe", version_number=1) == ["lab_scribe_1"]
    assert await names(agent="clerk", version_number=1) == ["lab_clerk_1", "shop_clerk_1"]
    assert await names(project="shop", agent="clerk", version_number=1) == ["shop_clerk_1"]
    assert await names(agent="clerk", version_number=2) == []


@law
async def lists_can_be_filtered_by_version_time_and_cost(h: Harness) -> None:
    db = await h.open()
    for number, name in enumerate("abcd"):
        summary = Summary("scribe", f"v{number % 2}", "lab", usd_micros=100 * number)
        await db.store.append(opened(name, summary=summary, at=T0 + number * MINUTE))

    async def names(**filters: Any) -> str:
        return "".join(row.session for row in await db.views.sessions(SessionQuery(**filters)))

    assert await names(version="v1") == "db"
    assert await names(since=T0 + MINUTE) == "dcb"
    assert await names(since=T0 + MINUTE + 1) == "dc"
    assert await names(until=T0 + 2 * MINUTE) == "ba"
    assert await names(until=T0 + 2 * MINUTE + 1) == "cba"
    assert await names(since=T0 + MINUTE, until=T0 + 2 * MINUTE) == "b"
    assert await names(usd_micros_min=100, usd_micros_max=200) == "cb"
    assert await names(usd_micros_max=0, version="v0") == "a"


@law
async def lists_can_be_in_the_order_of_cost_or_turns(h: Harness) -> None:
    db = await h.open()
    amounts = {"a": 5, "b": 70, "c": 5, "d": 0, "e": 900}
    for number, (name, amount) in enumerate(amounts.items()):
        summary = Summary("scribe", "v1", "lab", usd_micros=amount, turns=10 - number)
        await db.store.append(opened(name, summary=summary, at=T0 + number))
    pages: list[str] = []
    before = None
    while page := await db.views.sessions(SessionQuery(sort="cost", before=before, limit=2)):
        pages.append("".join(row.session for row in page))
        before = (page[-1].summary.usd_micros, page[-1].session)
    assert pages == ["eb", "ca", "d"]
    by_turns = await db.views.sessions(SessionQuery(sort="turns", limit=3))
    assert "".join(row.session for row in by_turns) == "abc"


@law
async def sessions_are_found_by_their_tags(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    for name in "abc":
        await db.store.append(opened(name))
    await seen(db, "a", Seen(tags={"tier": "gold", "city": "Köln"}))
    await seen(db, "b", Seen(tags={"tier": "gold"}))
    await seen(db, "c", Seen(tags={"tier": "tin"}))
    assert await other.screens.tags("lab", limit=2) == [Tag("tier", "gold", 2), Tag("city", "Köln", 1)]
    assert await other.screens.tags("elsewhere", limit=2) == []

    async def names(key: str, value: str) -> str:
        return "".join(row.session for row in await other.views.sessions(SessionQuery(tag=(key, value))))

    assert (await names("tier", "gold"), await names("city", "Köln"), await names("tier", "iron")) == ("ba", "a", "")
    await db.store.append(write("a", said("more")))
    await seen(db, "a", Seen(tags={"tier": "tin"}))
    assert (await names("tier", "gold"), await names("tier", "tin"), await names("city", "Köln")) == ("b", "ca", "")


@law
async def sessions_in_doubt_are_listed(h: Harness) -> None:
    db = await h.open()
    frozen = Summary("scribe", "v1", "lab", status="frozen", waiting_on="thaw")
    await db.store.append(opened("a", summary=Summary("scribe", "v1", "lab", waiting_on="doubt")))
    await db.store.append(opened("b", summary=frozen))
    await db.store.append(opened("c"))

    async def names() -> str:
        return "".join(row.session for row in await db.views.sessions(SessionQuery(project="lab", doubt=True)))

    assert await names() == "a"
    await seen(db, "b", Seen(lost=("call_1", "call_2")))
    assert await names() == "ba"
    assert (await db.screens.overview("lab", since=T0)).in_doubt == 2
    await db.store.append(write("b", said("more")))
    await seen(db, "b", Seen(settled=("call_1",)))
    assert await names() == "ba"
    await db.store.append(write("b", said("more")))
    await seen(db, "b", Seen(settled=("call_2",)))
    assert await names() == "a"


# --- search -----------------------------------------------------------------------------------------------------------


@law
async def what_was_said_is_found(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await spoken(db, "a", "The Café was closed", "Refund order 42, please")
    await spoken(db, "b", "refund of order 43", "and the CAFE")
    await spoken(db, "c", "日本語のテスト", "nothing else")
    assert await found(other, "refund ") == [("b", 2), ("a", 3)]
    assert await found(other, "order 42 ") == [("a", 3)]
    assert await found(other, "refu") == [("b", 2), ("a", 3)]
    assert await found(other, "refu ") == []
    assert await found(other, "café ") == [("b", 3), ("a", 2)]
    assert await found(other, "refund cafe ") == [], "words of one record"
    assert await found(other, "本語 ") == [("c", 2)]
    assert await found(other, "テスト") == [("c", 2)]
    assert await found(other, "本") == [("c", 2)]
    assert await found(other, "語本 ") == []
    assert await found(other, "") == []
    assert await found(other, "refund ", project="office") == []
    assert await found(other, "refund ", project=None) == [("b", 2), ("a", 3)]
    assert await found(other, "\"' & | ! :* <-> refund") == [("b", 2), ("a", 3)]


@law
async def a_search_is_filtered_and_goes_page_by_page(h: Harness) -> None:
    db = await h.open()
    for number in range(7):
        summary = Summary("scribe" if number % 2 else "clerk", "v1", "lab", user=f"u{number}")
        await spoken(db, f"s{number}", "red", "red and blue", summary=summary)
    assert await found(db, "red ", limit=2) == [("s6", 3), ("s5", 3)]
    assert await found(db, "red ", limit=2, after="s5") == [("s4", 3), ("s3", 3)]
    assert await found(db, "red ", after="nothing") == []
    assert await found(db, "red ", agent="scribe", limit=2) == [("s5", 3), ("s3", 3)]
    assert await found(db, "red ", user="u4") == await found(db, "red ", user="u4", begins=True) == [("s4", 3)]
    assert await found(db, "red blue ", after="s1") == [("s0", 3)]


@law
async def what_is_redacted_is_not_found(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await spoken(db, "a", "the secret is plum", "the weather is fine")
    await other.store.append(write("a", Redacted(2, "ada")))
    assert await found(db, "plum") == []
    assert await found(db, "weather") == [("a", 3)]
    # Read before it was redacted, recorded after.
    await db.store.append(opened("b", said("the secret is pear"), said("and it rains")))
    (cursor,) = [each for each in await db.store.behind(SCREENS, limit=9) if each.session == "b"]
    await db.store.append(write("b", Redacted(2, "ada")))
    await db.screens.record(cursor, Seen(words=((2, ("pear",)), (3, ("rains",)))))
    assert await found(other, "pear") == []
    assert await found(other, "rains") == [("b", 3)]


@law
async def metadata_that_is_redacted_is_no_tag(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("a", said("hello")))
    await seen(db, "a", Seen(tags={"name": "plum"}, tagged_at=1))
    await db.store.append(write("a", Redacted(2, "ada")))
    assert await db.screens.tags("lab", limit=9) == [Tag("name", "plum", 1)]
    await db.store.append(write("a", Redacted(1, "ada")))
    assert await db.screens.tags("lab", limit=9) == []
    await db.store.append(opened("b"))
    (cursor,) = [each for each in await db.store.behind(SCREENS, limit=9) if each.session == "b"]
    await db.store.append(write("b", Redacted(1, "ada")))
    await db.screens.record(cursor, Seen(tags={"name": "pear"}, tagged_at=1))
    assert await db.screens.tags("lab", limit=9) == []


@law
async def what_was_deleted_is_not_found(h: Harness) -> None:
    db = await h.open()
    await spoken(db, "a", "plum and pear")
    await spoken(db, "b", "plum and apple")
    await db.store.append(write("a", said("bye"), summary=Summary("scribe", "v1", "lab", status="deleted")))
    await seen(db, "a", Seen(words=((3, ("plum",)),), tags={"x": "y"}, deleted=True))
    assert await found(db, "plum ") == [("b", 2)]
    assert await db.screens.tags("lab", limit=9) == []


@law
async def words_are_recorded_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    one = Seen(words=((2, ("one",)),), turns=((T0, "completed"),))
    await db.screens.record(Cursor("s", 0, 2), one)
    for stale in (Cursor("s", 0, 2), Cursor("s", 1, 3), Cursor("nobody", 0, 1)):
        await other.screens.record(stale, one)
    assert (await db.screens.overview("lab", since=0)).minutes == (Minute(T0 - T0 % MINUTE, 1),)
    assert await db.store.behind(SCREENS, limit=9) == [Cursor("s", 2, 3)]
    await other.screens.record(Cursor("s", 2, 3), Seen(words=((3, ("two",)),)))
    assert not await db.store.behind(SCREENS, limit=9)
    assert await found(db, "two ") == [("s", 3)]
    # A fork says nothing of what it inherited.
    await db.store.append(forked("f", "s", 3))
    assert await db.store.behind(SCREENS, limit=9) == [Cursor("f", 3, 4)]


# --- sums -------------------------------------------------------------------------------------------------------------


@law
async def an_overview_counts_what_is_not_at_rest(h: Harness) -> None:
    db = await h.open()
    waits = Summary("scribe", "v1", "lab", status="waiting", waiting_on="approval")
    for name, summary in {
        "a": waits,
        "b": waits,
        "c": Summary("scribe", "v1", "lab", status="failed"),
        "d": Summary("scribe", "v1", "lab"),
        "e": Summary("scribe", "v1", "office", status="failed"),
    }.items():
        await db.store.append(opened(name, summary=summary))
    start = T0 - T0 % MINUTE
    await seen(db, "a", Seen(turns=((start, "completed"), (start + 1, "failed"), (start + MINUTE, "cancelled"))))
    await seen(db, "b", Seen(turns=((start + 2, "completed"), (start - MINUTE, "completed"))))
    await seen(db, "e", Seen(turns=((start, "completed"),)))
    counts = {("waiting", "approval"): 2, ("failed", ""): 1}
    minutes = (Minute(start, 2, 1), Minute(start + MINUTE, 0, 0, 1))
    assert await db.screens.overview("lab", since=start) == Overview(counts, 0, minutes)
    assert (await db.screens.overview("office", since=start)).counts == {("failed", ""): 1}


@law
async def versions_are_counted_by_the_sessions_that_pin_them(h: Harness) -> None:
    db = await h.open()
    for number, (version, status) in enumerate([("v1", "idle"), ("v2", "failed"), ("v1", "idle"), ("v1", "deleted")]):
        summary = Summary("scribe", version, "lab", status=status, turns=number, usd_micros=10)
        await db.store.append(opened(f"s{number}", summary=summary, at=T0 + number))
    uses = [VersionUse("v1", 2, 2, 20, T0 + 2), VersionUse("v2", 1, 1, 10, T0 + 1)]
    assert await db.screens.versions("lab", "scribe") == uses
    assert await db.screens.versions("lab", "clerk") == await db.screens.versions("office", "scribe") == []


@law
async def what_screens_ask_can_be_made_again(h: Harness) -> None:
    db = await h.open()
    await spoken(db, "a", "plum")
    await db.screens.clear()
    assert await found(db, "plum") == []
    assert list(await db.store.behind(SCREENS, limit=9)) == [Cursor("a", 0, 2)]
    await seen(db, "a", Seen(words=((2, ("plum",)),)))
    assert await found(db, "plum") == [("a", 2)]


# --- what a page asks -------------------------------------------------------------------------------------------------


@law
async def what_is_asked_together_is_what_is_asked_alone(h: Harness) -> None:
    db = await h.open()
    for number, name in enumerate("abc"):
        summary = Summary("scribe", f"v{number % 2}", "lab", waiting_on="approval" if name == "b" else "", turns=number)
        await spoken(db, name, "a red kite", summary=summary, at=T0 + number)
    for scope in ("user:ada", "session:a", "project:lab"):
        await db.controls.set_budget(scope, "tokens", 10, at=T0)
    query, search = SessionQuery(project="lab"), Search(("kite",), "", SessionQuery(project="lab"))
    overview, rows, hits, uses, tags, own, shared, waiting = await db.screens.ask(
        Sums("lab", T0),
        Sessions(query),
        Found(search),
        Uses("lab", "scribe"),
        Tags("lab", 5),
        Budgets("session:a"),
        Budgets(),
        Waiting(replace(query, waiting_on="approval")),
    )
    assert overview == await db.screens.overview("lab", since=T0)
    assert rows == await db.views.sessions(query)
    assert [hit for hit, _ in hits] == await db.screens.search(search)
    assert [record for _, record in hits] == [(await db.store.read(name, after=1))[0] for name in "cba"]
    assert uses == await db.screens.versions("lab", "scribe")
    assert tags == await db.screens.tags("lab", limit=5)
    assert own == await db.controls.budgets("session:a")
    assert [budget.scope for budget in shared] == ["project:lab", "user:ada"]
    ((row, loaded),) = waiting
    assert (row.session, loaded) == ("b", await db.store.load("b"))


@law
async def a_session_is_shown_with_a_stretch_of_its_journal(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("a", *(said(str(number)) for number in range(20))))
    await db.store.append(write("a", said("more"), snapshot=b"at 22"))
    await db.store.append(write("a", said("and more")))

    async def positions(place: Place, position: int = 0) -> list[int]:
        (shown,) = await db.screens.ask(Opened("a", place, position, 4))
        assert shown.loaded == await db.store.load("a")
        return [record.position for record in shown.records]

    assert await positions("newest") == [20, 21, 22, 23]
    assert await positions("around", 10) == [9, 10, 11, 12]
    assert await positions("around", 1) == [1, 2, 3, 4]
    assert await positions("before", 3) == [1, 2]
    assert await positions("before", 99) == [20, 21, 22, 23]
    assert await positions("after", 3) == [4, 5, 6, 7]
    assert await positions("after", 23) == []
    await h.refused(NotFound, db.screens.ask(Opened("nobody")))


@law
async def a_stretch_of_large_records_is_shorter(h: Harness) -> None:
    db = await h.open()
    big = "x" * 70_000  # so that a stretch is of several pieces
    await db.store.append(opened("a"))
    for start in range(0, 240, 20):
        await db.store.append(write("a", *(said(big, f"in-{start + number}") for number in range(20))))
    await db.store.append(write("a", said("the end"), snapshot=b"at 242"))

    async def positions(place: Place, position: int = 0) -> list[int]:
        (shown,) = await db.screens.ask(Opened("a", place, position, 200))
        return [record.position for record in shown.records]

    newest, before, after = await positions("newest"), await positions("before", 242), await positions("after", 1)
    assert newest == list(range(newest[0], 243))
    assert before == list(range(before[0], 242))
    assert after == list(range(2, after[-1] + 1))
    for found in (newest, before, after):
        assert 2 * PIECE_RECORDS < len(found) < 240
        assert STRETCH_BYTES <= 70_000 * len(found) < 3 * STRETCH_BYTES
    assert 60 in await positions("around", 60)


@law
async def a_projection_that_may_have_something_to_read_says_so(h: Harness) -> None:
    db = await h.open()
    assert await db.screens.ask(Behind((SCREENS,))) == [True], "nobody has followed the journals yet"
    await db.store.behind(SCREENS, limit=1)
    assert await db.screens.ask(Behind((SCREENS,))) == [False]
    await db.store.append(opened("a"))
    assert await db.screens.ask(Behind((SCREENS,))) == [True]
    await seen(db, "a")
    assert await db.screens.ask(Behind((SCREENS,))) == [False]
