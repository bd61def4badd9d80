"""What the processes of `test_sqlite_processes.py` do: run as a script, with the path of one SQLite file.

python writing.py append PATH NAME COUNT     append to one shared session, COUNT times, conditionally
python writing.py claim PATH NAME            claim, write under the lease, release, until nothing is due
python writing.py pour PATH NAME             append for ever, printing what was acknowledged
"""

from __future__ import annotations

import asyncio
import sys

from remanence.content import Text
from remanence.errors import Conflict
from remanence.events import InputReceived, SessionOpened
from remanence.ports import Database, Release, Write
from remanence.stores.sqlite.database import open_sqlite

T0 = 1_790_000_000_000_000


def said(text: str) -> InputReceived:
    return InputReceived(text, (Text(text),))


async def append(db: Database, name: str, count: int) -> None:
    """One decision after the other: whoever is told that somebody else was first reads and tries again."""
    kept = 0
    while kept < count:
        head = (await db.views.session("shared")).head
        try:
            await db.store.append(Write("shared", (said(f"{name}-{kept}"),), T0, name, expect=head))
        except Conflict:
            continue
        kept += 1


async def claim(db: Database, name: str) -> None:
    while leases := await db.store.claim(name, now=T0, ttl_s=30.0, limit=3):
        for lease in leases:
            write = Write(lease.session, (said(name),), T0, name, expect=1, lease=lease, release=Release())
            await db.store.append(write)


async def pour(db: Database, name: str) -> None:
    async def one(session: str) -> None:
        await db.store.append(Write(session, (SessionOpened("a", "v", "p"),), T0, name))
        number = 0
        while True:
            done = await db.store.append(Write(session, (said(f"{number}"), said("more")), T0, name))
            sys.stdout.write(f"{session} {done.head}\n")
            sys.stdout.flush()
            number += 1

    await asyncio.gather(*(one(f"{name}-{n}") for n in range(8)))


async def main(verb: str, path: str, name: str, *rest: str) -> None:
    db = await open_sqlite(path)
    match verb:
        case "append":
            await append(db, name, int(rest[0]))
        case "claim":
            await claim(db, name)
        case _:
            await pour(db, name)
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
