"""The full-text index on SQLite, from which words are taken for as long as the database lives."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from remanence.stores.sqlite.connect import Location, connect
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
