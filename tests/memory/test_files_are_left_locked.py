"""Looking at a receipt reads the database's own files, and leaves SQLite's locks on them as they were."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from test_erasure import commanded, holds, told

from remanence import Remanence
from remanence.app import Options
from remanence.commands.traces import Tracer
from remanence.models.scripted import Scripted

COME_AND_GO = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])
connection.close()
"""


async def come_and_go(file: Path) -> int:
    """Another process opens the database, counts its sessions and closes it; the last to close removes the log."""
    run = [sys.executable, "-c", COME_AND_GO, str(file)]
    answer = await asyncio.to_thread(subprocess.run, run, check=True, timeout=60, capture_output=True, text=True)
    return int(answer.stdout)


def inode(file: Path) -> int:
    return Path(f"{file}-wal").stat().st_ino


async def test_what_is_written_after_a_receipt_was_checked_is_seen_by_others(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    async with Remanence(f"sqlite:///{file}", options=Options(model=Scripted(commanded))) as rt:
        await told(rt)
        receipt = await rt.memory.erase("user", "ada", reason="asked to")
        for _ in range(2):
            assert all((await holds(rt, receipt)).values())
        log = inode(file)
        before = await come_and_go(file)
        assert inode(file) == log, "the log was removed while it was in use"
        await told(rt, "the hedge is trimmed in May", user="ben")
        assert await come_and_go(file) == before + 1


def test_the_beginning_of_an_id_is_no_word_of_anybody() -> None:
    """In a row of somebody else's the text is followed by the id of its session, as it is in a list of memories."""
    tracer = Tracer(b"key")
    prints = frozenset(tracer.prints_of("the hedge is trimmed in May sess_01a2041c5687ae29f0012f4a061c5d it said"))
    assert tracer.find(prints, [b"the hedge is trimmed in May"])
    assert not tracer.find(prints, [b"the lawn is never trimmed in May sess_01a2041c43072829f0fcc2f3d9ef3e"])
