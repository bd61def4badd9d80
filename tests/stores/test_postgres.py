"""What is PostgreSQL's own: addresses, schemas, several processes, and what its errors become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from remanence.content import Text
from remanence.errors import (
    InvalidConfig,
    InvalidInput,
    RemanenceError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from remanence.events import InputReceived, SessionOpened
from remanence.ports import Database, Summary, Write
from remanence.stores.postgres.connect import shown
from remanence.stores.postgres.database import open_postgres
from remanence.stores.postgres.schema import waiting

T0 = 1_790_000_000_000_000


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await open_postgres(url)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def sql(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "remanence"})
    try:
        yield connection
    finally:
        await connection.close()


def opening(session: str = "s") -> Write:
    return Write(session, (SessionOpened("scribe", "v", "p"),), T0, "ada")


def said(text: str, session: str = "s", **more: object) -> Write:
    return Write(session, (InputReceived(text, (Text(text),)),), T0, "ada", **more)  # type: ignore[arg-type]


BAD_URLS = {
    "postgresql://ada:secret@127.0.0.1:1/x": (StoreUnavailable, "cannot be reached"),
    "postgresql://ada:secret@no-such-host.invalid/x": (StoreUnavailable, "cannot be reached"),
    "postgresql://ada:secret@127.0.0.1:port/x": (InvalidConfig, "not one PostgreSQL's driver understands"),
    "postgresql://ada:secret@/x?host=/tmp&target_session_attrs=nonsense": (InvalidConfig, "driver understands"),
}


@pytest.mark.parametrize("url", BAD_URLS)
async def test_an_address_that_cannot_work_says_so_without_the_password(url: str) -> None:
    kind, words = BAD_URLS[url]
    with pytest.raises(RemanenceError) as caught:
        await open_postgres(url)
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert "secret" not in str(caught.value)


async def test_a_database_that_does_not_exist_is_a_setting_to_correct(postgres_database: str) -> None:
    with pytest.raises(InvalidConfig, match="does not exist"):
        await open_postgres(postgres_database.replace("/remanence_", "/missing_"))


async def test_a_login_without_rights_is_a_setting_to_correct(postgres_database: str) -> None:
    name = f"guest_{postgres_database.partition('/remanence_')[2].partition('?')[0]}"
    async with sql(postgres_database) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        with pytest.raises(InvalidConfig, match="permission denied") as caught:
            await open_postgres(postgres_database.replace("//postgres:@", f"//{name}:secret@"))
        assert "secret" not in str(caught.value)
    finally:
        async with sql(postgres_database) as connection:
            await connection.execute(f"DROP ROLE {name}")


async def test_the_url_is_shown_without_its_password(postgres_database: str) -> None:
    async with opened(postgres_database.replace("//postgres:@", "//postgres:secret@")) as database:
        assert "secret" not in database.url
        assert "postgres:***@" in database.url
    assert (
        shown("postgresql://host/x?user=ada&password=secret&ssl=on")
        == "postgresql://host/x?user=ada&password=***&ssl=on"
    )


async def test_two_starters_make_one_schema(empty_postgres_database: str) -> None:
    databases = await asyncio.gather(*[open_postgres(empty_postgres_database) for _ in range(4)])
    assert await waiting(empty_postgres_database) == ()
    await asyncio.gather(*[database.store.append(opening(str(n))) for n, database in enumerate(databases)])
    await asyncio.gather(*[database.close() for database in databases])


async def test_a_database_of_a_newer_release_is_left_alone(postgres_database: str) -> None:
    async with opened(postgres_database):
        pass
    async with sql(postgres_database) as connection:
        await connection.execute("INSERT INTO migrations VALUES (9999, 'future', 'x')")
    with pytest.raises(StoreError, match="newer release"):
        await open_postgres(postgres_database)


async def test_a_wake_up_in_one_process_ends_the_wait_in_another(postgres_database: str) -> None:
    async with opened(postgres_database) as one, opened(postgres_database) as other:
        await one.store.append(opening())
        await other.store.wait(timeout_s=10)  # which begins to listen, and says when it does
        await other.store.claim("w", now=T0, ttl_s=30, limit=1)
        async with asyncio.timeout(60):
            waiting_there = asyncio.create_task(other.store.wait(timeout_s=60))
            await one.store.append(said("wake up", wake=True))
            await waiting_there
        assert [lease.session for lease in await other.store.claim("w", now=T0, ttl_s=30, limit=1)] == ["s"]


UNFIT = {
    "a zero character": Summary("scribe", "v", "lab", title="a\x00b"),
    "half a surrogate pair": Summary("scribe", "v", "lab", title="a\ud800b"),
    "a number too large": Summary("scribe", "v", "lab", tokens=1 << 70),
    "a number too large for its column": Summary("scribe", "v", "lab", turns=1 << 40),
}


@pytest.mark.parametrize("what", UNFIT)
async def test_a_value_that_does_not_fit_is_refused_and_spoils_no_neighbour(postgres_database: str, what: str) -> None:
    async with opened(postgres_database) as database:
        append = database.store.append
        await asyncio.gather(*[append(opening(name)) for name in "abc"])
        for _ in range(2):
            outcomes = await asyncio.gather(
                append(said("one", "a")),
                append(said("two", "b", summary=UNFIT[what])),
                append(said("three", "c")),
                return_exceptions=True,
            )
            assert [type(outcome).__name__ for outcome in outcomes] == ["Appended", "InvalidInput", "Appended"]
        with pytest.raises(InvalidInput):
            await append(Write("d", opening().events, T0, "ada", summary=UNFIT[what]))
        assert [len(await database.store.read(name)) for name in "abc"] == [3, 1, 3]


SERVER_ERRORS = {"53100": StoreFull, "XX001": StoreCorrupt, "53200": StoreUnavailable, "42501": StoreUnavailable}


@pytest.mark.parametrize("code", SERVER_ERRORS)
async def test_what_the_server_says_becomes_our_error_and_nothing_of_the_write_is_kept(
    postgres_database: str, code: str
) -> None:
    async with opened(postgres_database) as database, sql(postgres_database) as connection:
        await database.store.append(opening())
        await database.store.append(said("before"))
        await connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{code}'; END $$;"
            "CREATE TRIGGER failing BEFORE INSERT ON records EXECUTE FUNCTION fail()"
        )
        with pytest.raises(SERVER_ERRORS[code]) as caught:
            await database.store.append(said("refused"))
        assert type(caught.value) is SERVER_ERRORS[code]
        await connection.execute("DROP TRIGGER failing ON records")
        await database.store.append(said("after"))
        assert len(await database.store.read("s")) == 3


async def test_a_row_that_somebody_locks_for_long_fails_its_write_and_no_other(postgres_database: str) -> None:
    async with opened(postgres_database) as database, sql(postgres_database) as connection:
        await asyncio.gather(database.store.append(opening("held")), database.store.append(opening("free")))
        async with connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE id = 'held' FOR UPDATE")
            held, free = await asyncio.gather(
                database.store.append(said("late", "held")),
                database.store.append(said("soon", "free")),
                return_exceptions=True,
            )
        assert isinstance(held, StoreUnavailable)
        assert not isinstance(free, BaseException)
        await database.store.append(said("at last", "held"))


async def test_records_of_one_write_share_a_row_and_stay_within_their_bytes(postgres_database: str) -> None:
    """The bytes beside the payloads stay small: what a turn costs on disk rests on it."""
    async with opened(postgres_database) as database, sql(postgres_database) as connection:
        await database.store.append(opening())
        for number in range(1_000):
            events = tuple(InputReceived(f"{number}-{part}", (Text("x" * 300),)) for part in range(2))
            await database.store.append(Write("s", events, T0, "worker-1"))
        assert await connection.fetchval("SELECT count(*) FROM records") == 1001
        payloads = await connection.fetchval("SELECT sum(octet_length(payloads)) FROM records")
        size = await connection.fetchval("SELECT pg_relation_size('records') + pg_relation_size('records_pkey')")
        assert (size - payloads) / 2_000 < 110
