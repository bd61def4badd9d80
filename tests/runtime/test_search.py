"""Sessions are found by what was said and done in them, and no longer once that is erased."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.shop import Shop, call, runtime, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands import search, sessions
from remanence.commands.sessions import Opening
from remanence.events import Redacted
from remanence.ports import Cursor, Reading, SessionQuery, Write
from remanence.runtime.projector import BATCH_BUSY, Projector
from remanence.screens import SCREENS
from remanence.testing.clock import FakeClock


async def found(rt: Remanence, text: str, **filters: str) -> list[str]:
    """Each session that is found, with its excerpt and the words that fit in brackets."""
    searched = await search.search(rt.caller, text, SessionQuery(**filters), within_s=10.0)  # pyright: ignore[reportArgumentType]
    assert searched.unread == 0
    excerpts = ["".join(f"[{piece}]" if fits else piece for piece, fits in one.excerpt) for one in searched.found]
    return [f"{one.row.session} {one.kind}: {text}" for one, text in zip(searched.found, excerpts, strict=True)]


def content(folder: Path) -> bytes:
    """Every byte of the files of a folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_what_was_said_and_done_is_found(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        opening = Opening(user="ada", title="About the Café", metadata={"tier": "gold"})
        session = await rt.open(shop.agent(), opening=opening)
        await session.send(call("look", n=4711))
        assert await found(rt, "café") == [f"{session.id} SessionOpened: About the [Café]"]
        assert await found(rt, "looked 47") == [f'{session.id} ModelReplied: look {{"n": [4711]}} -> [looked] [4711]']
        assert [row.session for row in await rt.database.views.sessions(SessionQuery(tag=("tier", "gold")))]
        assert await found(rt, "looked", user="bob") == []
        other = await rt.open(shop.agent(), user="bob")
        await other.send("please be looked after")
        assert [line.split()[0] for line in await found(rt, "looked ")] == [other.id, session.id]


async def test_what_is_erased_leaves_the_index_and_the_file(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
        kept = await rt.open(Shop().agent(), user="ada")
        for number in range(40):
            await kept.submit(f"quincequince medlarmedlar {number}")
        gone = await rt.open(Shop().agent(), user="ada")
        appended = await gone.submit("xylographic zymurgy")
        assert len(await found(rt, "zymurgy ")) == 1
        erased = Redacted(appended.head, "ada")
        await rt.database.store.append(Write(gone.id, (erased,), rt.caller.clock.now(), "ada"))
        assert await found(rt, "zymurgy ") == []
        assert len(await found(rt, "quincequince ")) == 1
    whole = content(tmp_path)
    assert b"quince" in whole
    assert b"zymurg" not in whole
    assert b"ylographi" not in whole


async def redacted_before_it_was_read(url: str) -> list[str]:
    """What is found of a message that was erased before anybody looked for it."""
    async with Remanence(url, worker=False) as rt:
        session = await rt.open(Shop().agent(), user="ada")
        appended = await session.submit("xylographic zymurgy")
        erased = Redacted(appended.head, "ada")
        await rt.database.store.append(Write(session.id, (erased,), rt.caller.clock.now(), "ada"))
        return [*await found(rt, "zymurgy "), *await found(rt, "redacted ")]


async def test_what_was_erased_before_it_was_read_is_not_found_by_what_is_left_of_it(
    tmp_path: Path, postgres_database: str
) -> None:
    assert await redacted_before_it_was_read(f"sqlite:///{tmp_path}/a.db") == []
    assert await redacted_before_it_was_read(postgres_database) == []


async def test_a_session_that_was_removed_is_not_found(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
        session = await rt.open(Shop().agent(), user="ada")
        await session.submit("xylographic zymurgy")
        assert len(await found(rt, "zymurgy")) == 1
        await sessions.delete(rt.caller, session.id)
        assert await found(rt, "zymurgy") == []


async def test_the_index_made_again_finds_the_same(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        for number in range(5):
            session = await rt.open(shop.agent())
            await session.send(call("look", n=number))
        before = await found(rt, "look")
        assert len(before) == 5
        await rt.database.screens.clear()
        assert await found(rt, "look") == before


# --- the projector ----------------------------------------------------------------------------------------------------


async def test_projections_are_brought_up_to_date_in_idle_time(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.send("hello")
        await until(session, lambda s: s.turn is None)
        while await rt.database.store.behind(SCREENS, limit=1) or await rt.database.store.behind("usage", limit=1):
            await rt.caller.clock.sleep(0.02)
        minutes = (await rt.database.screens.overview("default", since=0)).minutes
        assert sum(minute.completed for minute in minutes) == 1  # a minute may be over in between


async def test_a_journal_that_cannot_be_read_is_left_alone_until_it_grows(tmp_path: Path) -> None:
    options = Options(clock=FakeClock())
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False, options=options) as rt:
        bad = await rt.open(Shop().agent())
        good = await rt.open(Shop().agent())
        await good.submit("hello")
        tried: list[str] = []

        async def add(cursor: Cursor, read: Reading) -> None:
            tried.append(cursor.session)
            if cursor.session == bad.id:
                raise ValueError("no good")
            await search.project(rt.caller, cursor, read)

        projector = Projector(rt.database, rt.caller.clock, [(SCREENS, add)], lambda: False)
        assert await projector.catch_up() == 2
        assert await projector.catch_up() == 0
        await bad.submit("more")
        await good.submit("more")
        assert await projector.catch_up() == 2
        assert tried.count(bad.id) == 2
        assert tried.count(good.id) == 2


async def test_sessions_that_are_written_to_all_the_time_keep_no_other_waiting(tmp_path: Path) -> None:
    options = Options(clock=FakeClock())
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False, options=options) as rt:
        busy = [await rt.open(Shop().agent()) for _ in range(BATCH_BUSY + 1)]
        last = await rt.open(Shop().agent())
        read: list[str] = []

        async def add(cursor: Cursor, reading: Reading) -> None:
            read.append(cursor.session)
            await search.project(rt.caller, cursor, reading)

        projector = Projector(rt.database, rt.caller.clock, [(SCREENS, add)], lambda: True)
        for _ in range(2):
            await projector.catch_up()
            for session in busy:
                await session.submit("more")
        assert last.id in read


async def test_what_several_projections_want_is_read_once(tmp_path: Path) -> None:
    options = Options(clock=FakeClock())
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False, options=options) as rt:
        session = await rt.open(Shop().agent())
        await session.submit("hello")
        seen: list[object] = []

        async def look(cursor: Cursor, read: Reading) -> None:
            seen.extend(await read(cursor.session, after=cursor.position, limit=1))

        await Projector(rt.database, rt.caller.clock, [("usage", look), (SCREENS, look)], lambda: True).catch_up()
        first, again = seen
        assert first is again
