"""Reads of a SQLite file: what is asked for together goes together, and nobody hears another's answer or error."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from remanence.errors import StoreError, StoreUnavailable
from remanence.stores.sqlite.connect import Location
from remanence.stores.sqlite.readers import TOGETHER_MAX, Readers


@pytest.fixture
def location(tmp_path: Path) -> Location:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE numbers (n INTEGER)")
        connection.execute("INSERT INTO numbers VALUES (1)")
    connection.close()
    return Location(str(path))


def who(connection: sqlite3.Connection) -> tuple[str, int]:
    """Which thread reads, and how many numbers there are."""
    (count,) = connection.execute("SELECT count(*) FROM numbers").fetchone()
    return threading.current_thread().name, count


def broken(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT nothing FROM nowhere")


async def test_short_reads_of_one_step_share_a_way_and_their_number_has_a_bound(location: Location) -> None:
    readers = Readers(location)
    found = await asyncio.gather(*(readers.run(who, short=True) for _ in range(TOGETHER_MAX)))
    assert len({name for name, _ in found}) == 1
    asked = [readers.run(who, short=True) for _ in range(3 * TOGETHER_MAX)]
    assert [count for _, count in await asyncio.gather(*asked)] == [1] * 3 * TOGETHER_MAX
    await readers.close()


async def test_a_read_that_fails_or_is_left_does_not_touch_those_beside_it(location: Location) -> None:
    readers = Readers(location)
    left = asyncio.ensure_future(readers.run(who, short=True))
    asked = [asyncio.ensure_future(readers.run(query, short=True)) for query in (who, broken, who)]
    await asyncio.sleep(0)
    left.cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[1], StoreError)
    assert [one[1] for one in (found[0], found[2]) if isinstance(one, tuple)] == [1, 1]
    assert (await readers.run(who))[1] == 1
    await readers.close()


async def test_a_long_read_goes_alone(location: Location) -> None:
    readers = Readers(location)
    may_end = threading.Event()

    def long(connection: sqlite3.Connection) -> int:
        may_end.wait(60)
        return 7

    waiting = asyncio.ensure_future(readers.run(long))
    assert (await readers.run(who, short=True))[1] == 1
    may_end.set()
    assert await waiting == 7
    await readers.close()


async def test_what_is_read_on_the_spot_sees_what_was_committed_before(location: Location) -> None:
    readers = Readers(location)
    assert await readers.at_once(who) == (threading.current_thread().name, 1)
    with closing(sqlite3.connect(location.path)) as connection, connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
    connection.close()
    assert (await readers.at_once(who))[1] == 2
    with pytest.raises(StoreError):
        await readers.at_once(broken)
    await readers.close()


async def test_who_is_in_the_way_of_a_read_on_the_spot_is_waited_for_by_a_thread(location: Location) -> None:
    readers = Readers(location)
    assert (await readers.at_once(who))[1] == 1
    other = sqlite3.connect(location.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")  # this file has no log beside it, so a writer keeps readers out
    reading = asyncio.ensure_future(readers.at_once(who))
    await asyncio.sleep(0)
    assert not reading.done()
    other.execute("COMMIT")
    assert (await reading)[0] != threading.current_thread().name
    other.close()
    await readers.close()


async def test_closing_answers_what_was_asked_for_and_refuses_what_comes_later(location: Location) -> None:
    readers = Readers(location)
    asked = [asyncio.ensure_future(readers.run(who, short=True)) for _ in range(3)]
    await asyncio.sleep(0)
    await readers.close()
    assert [count for _, count in await asyncio.gather(*asked)] == [1, 1, 1]
    with pytest.raises(StoreUnavailable):
        await readers.run(who)
    with pytest.raises(StoreUnavailable):
        await readers.at_once(who)
    await readers.close()
