"""The full-text index on SQLite, from which words are taken for as long as the database lives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.runtime.shop import Shop
from tests.runtime.test_search import content, found

from remanence import Remanence
from remanence.commands import erasure
from remanence.commands.sessions import Opening
from remanence.errors import StoreCorrupt
from remanence.stores.sqlite.connect import Location, connect, explained
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.schema import migrate
from remanence.stores.sqlite.words import forget_record, merge_words

TIMES = 1_100
"""FTS5 allows 2,000 levels, and before 3.43 a merge of all that there is begins two new ones."""
KEPT = 400
"""Records whose words fill more than one page: below that FTS5 takes the levels back."""
_SAY = "INSERT INTO search_words (rowid, words) VALUES (?, ?)"
_FOUND = "SELECT rowid FROM search_words WHERE search_words MATCH ?"


async def test_words_can_be_taken_out_any_number_of_times(tmp_path: Path) -> None:
    path = str(tmp_path / "remanence.db")
    await migrate(path)
    with closing(connect(Location(path, ephemeral=True), writer=True)) as connection:
        ledger = Ledger(connection)
        rows = [(number, f"kept{number} apple{number * 7} plum{number * 31}") for number in range(1, KEPT)]
        connection.executemany(_SAY, [*rows, *((KEPT + number, f"quince pear{number}") for number in range(TIMES))])
        for number in range(TIMES):
            ledger.begin()
            forget_record(ledger, KEPT + number)
            merge_words(ledger)
            ledger.commit()
    with closing(connect(Location(path), writer=True)) as connection:
        assert connection.execute(_FOUND, ("quince",)).fetchall() == []
        assert connection.execute(_FOUND, (f"kept{KEPT - 1}",)).fetchall() == [(KEPT - 1,)]
        connection.execute("INSERT INTO search_words (search_words) VALUES ('integrity-check')")
        pieces = connection.execute("SELECT block FROM search_words_data").fetchall()
    assert not [block for (block,) in pieces if b"quince" in block or b"pear" in block]


# --- an index that an older release used up ---------------------------------------------------------------------------

TOO_MANY = b"\x8f\x51"
"""2,001 levels, as FTS5 writes that number."""
_STRUCTURE = "SELECT block FROM search_words_data WHERE id = 10"


def use_up(path: Path) -> None:
    """Leave the index as a thousand erasures of an older release did: FTS5 takes it for damaged."""
    with closing(sqlite3.connect(path)) as connection, connection:
        (block,) = connection.execute(_STRUCTURE).fetchone()
        lost = block[:4] + TOO_MANY + block[5:]
        connection.execute("UPDATE search_words_data SET block = ? WHERE id = 10", (lost,))


async def said(rt: Remanence, session: str, words: str) -> None:
    await (await rt.open(Shop().agent(), opening=Opening(session=session))).submit(words)
    assert await found(rt, words)


async def test_an_index_that_is_used_up_is_made_again_when_the_file_is_opened(tmp_path: Path) -> None:
    url, path = f"sqlite:///{tmp_path}/a.db", tmp_path / "a.db"
    async with Remanence(url, worker=False) as rt:
        await said(rt, "kept", "quincequince ")
        await said(rt, "gone", "xylographic zymurgy ")
    use_up(path)
    with (
        pytest.raises(StoreCorrupt) as caught,
        explained(Location(str(path))),
        closing(connect(Location(str(path)))) as c,
    ):
        c.execute(_FOUND, ("quincequince",))
    assert "The full-text index of the database" in caught.value.message
    assert "The sessions are whole" in caught.value.message
    async with Remanence(url, worker=False) as rt:
        assert len(await found(rt, "quincequince ")) == 1
        assert len(await found(rt, "zymurgy ")) == 1
        assert (await erasure.erase(rt.caller, "session", "gone", reason="asked")).records
        assert await found(rt, "zymurgy ") == []
        assert len(await found(rt, "quincequince ")) == 1
    whole = content(tmp_path)
    assert b"quince" in whole
    assert b"zymurg" not in whole


async def test_an_index_that_is_used_up_meanwhile_is_made_again_by_who_meets_it(tmp_path: Path) -> None:
    """A process of an older release writes to the same file. Nobody is refused for it, and nothing is lost."""
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
        await said(rt, "kept", "quincequince ")
        await said(rt, "gone", "xylographic zymurgy ")
        use_up(tmp_path / "a.db")
        assert (await erasure.erase(rt.caller, "session", "gone", reason="asked")).records
        assert await found(rt, "zymurgy ") == []
        assert len(await found(rt, "quincequince ")) == 1
        use_up(tmp_path / "a.db")
        await said(rt, "more", "medlarmedlar ")
        assert len(await found(rt, "quincequince ")) == 1


async def test_an_index_whose_texts_are_lost_refuses_and_lets_the_rest_go_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with Remanence(url, worker=False) as rt:
        await said(rt, "kept", "quincequince ")
    use_up(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("DROP TABLE search_words_content")
    async with Remanence(url, worker=False) as rt:
        session = await rt.get("kept")
        assert (await session.submit("still there")).head > 1
        with pytest.raises(StoreCorrupt) as caught:
            await erasure.erase(rt.caller, "session", "kept", reason="asked")
        assert "full-text index" in caught.value.message
