"""Several processes on one SQLite file, and one that is killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from remanence.content import text_of
from remanence.events import InputReceived, SessionOpened
from remanence.ports import Database, Write
from remanence.stores.sqlite.database import open_sqlite
from remanence.stores.verify import verify_session

SCRIPT = Path(__file__).with_name("writing.py")
T0 = 1_790_000_000_000_000


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def finished(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, errors


async def inputs(db: Database, session: str) -> list[tuple[str, str]]:
    """(actor, text) of what was said in a session."""
    records = await db.store.read(session)
    return [(r.actor, text_of(r.event.parts)) for r in records if isinstance(r.event, InputReceived)]


async def test_decisions_of_three_processes_interleave(tmp_path: Path) -> None:
    path = str(tmp_path / "shared.db")
    db = await open_sqlite(path)
    await db.store.append(Write("shared", (SessionOpened("a", "v", "p"),), T0, "test"))
    await finished([started("append", path, f"p{n}", "60") for n in range(3)])
    said = await inputs(db, "shared")
    for n in range(3):
        assert [text for actor, text in said if actor == f"p{n}"] == [f"p{n}-{k}" for k in range(60)]
    verified = await verify_session(db, "shared")
    assert (verified.records, verified.flaws) == (181, ())
    await db.close()


async def test_claims_of_three_processes_share_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "claims.db")
    db = await open_sqlite(path)
    opened = (SessionOpened("a", "v", "p"),)
    await asyncio.gather(*(db.store.append(Write(f"s{n}", opened, T0, "test", wake=True)) for n in range(90)))
    await finished([started("claim", path, f"w{n}") for n in range(3)])
    for n in range(90):
        assert len(await inputs(db, f"s{n}")) == 1
        assert (await db.views.session(f"s{n}")).epoch == 1
    await db.close()


async def test_what_a_killed_process_acknowledged_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "killed.db")
    acknowledged: dict[str, int] = {}
    for turn in range(3):
        process = started("pour", path, f"k{turn}")
        assert process.stdout is not None
        for _ in range(400):
            session, head = (await asyncio.to_thread(process.stdout.readline)).split()
            acknowledged[session] = int(head)
        process.send_signal(signal.SIGKILL)
        # What it had said before it died counts too: all of it, and `communicate` passes over what is at hand already.
        with process:
            rest = await asyncio.to_thread(process.stdout.read)
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                session, head = line.split()
                acknowledged[session] = int(head)
    db = await open_sqlite(path)
    assert len(acknowledged) == 24
    for session, head in acknowledged.items():
        verified = await verify_session(db, session)
        assert verified.flaws == ()
        assert verified.records >= head
        # A write of two records is there whole or not at all.
        assert verified.records % 2 == 1
    await db.close()
