"""`sessions verify`: whatever somebody does to the rows of a journal shows, at the record where it was done.

The rows of a real SQLite file are changed behind the store's back.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from moving import World, erase, runtime

from remanence.commands.sessions import Opening
from remanence.commands.transfer import Verification, export_session, verify_session
from remanence.commands.verification import sessions_all
from remanence.errors import NotFound, StoreCorrupt
from remanence.events import chain_digest, payload_digest

Damage = Callable[[sqlite3.Connection], object]
FORKED_AT = 11


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the sessions `root` (records 1 to 27, the 7th erased) and `fork` (12 on)."""
    path = tmp_path_factory.mktemp("written") / "a.db"

    async def write() -> None:
        async with runtime(f"sqlite:///{path}", World()) as rt:
            session = await rt.open("support", opening=Opening(session="root"))
            await session.send("hello")
            await session.send("open sesame")
            assert (await session.state()).head == FORKED_AT
            fork = await rt.get(await fork_of(rt))
            await fork.send("report")
            await fork.send("a long message " + "x" * 70_000)
            await session.send("refund 900")
            await erase(rt, "root", 7)
            await session.send("goodbye")

    asyncio.run(write())
    return path


async def fork_of(rt) -> str:
    from remanence.commands import forks

    return await forks.fork(rt.caller, "root", opening=Opening(session="fork"))


def damaged(written: Path, tmp_path: Path, damage: Damage) -> str:
    """The URL of a copy of the database in which `damage` was done."""
    path = tmp_path / "damaged.db"
    for suffix in ("", "-wal"):
        if Path(f"{written}{suffix}").exists():
            shutil.copy(f"{written}{suffix}", f"{path}{suffix}")
    with closing(sqlite3.connect(path)) as connection, connection:
        damage(connection)
    return f"sqlite:///{path}"


def place(session: str, position: int) -> str:
    return f"((SELECT id FROM sessions WHERE name = '{session}') << 32 | {position})"


def update(session: str, position: int, change: str, *values: object) -> Damage:
    return lambda c: c.execute(f"UPDATE records SET {change} WHERE place = {place(session, position)}", values)


def drop(session: str, position: int) -> Damage:
    return lambda c: c.execute(f"DELETE FROM records WHERE place = {place(session, position)}")


def exchange(session: str, first: int, second: int) -> Damage:
    """Two whole rows change places."""

    def damage(c: sqlite3.Connection) -> None:
        for old, moved in ((first, 4_000), (second, first), (4_000, second)):
            c.execute(f"UPDATE records SET place = {place(session, moved)} WHERE place = {place(session, old)}")

    return damage


def drop_and_close_up(session: str, position: int, last: int) -> Damage:
    """A record is dropped and those after it move down, as does the head."""

    def damage(c: sqlite3.Connection) -> None:
        drop(session, position)(c)
        for old in range(position + 1, last + 1):
            c.execute(f"UPDATE records SET place = {place(session, old - 1)} WHERE place = {place(session, old)}")
        c.execute("UPDATE heads SET head = head - 1 WHERE id = (SELECT id FROM sessions WHERE name = ?)", (session,))

    return damage


def add(session: str, position: int) -> Damage:
    """A record after the head."""
    return lambda c: c.execute(
        f"INSERT INTO records SELECT {place(session, position)}, at, epoch, actor, payload, digest, payload_digest "
        f"FROM records WHERE place = {place(session, position - 1)}"
    )


def forge_erasure(c: sqlite3.Connection) -> None:
    """Words in place of others, with the digest of the real ones."""
    (payload,) = c.execute(f"SELECT payload FROM records WHERE place = {place('root', 2)}").fetchone()
    update("root", 2, "payload = ?, payload_digest = ?", payload.replace(b"hello", b"adieu"), payload_digest(payload))(
        c
    )


def replace_the_fork_point(c: sqlite3.Connection) -> None:
    """The source's record at the fork, and everything after it, written anew with digests that fit."""
    rows = c.execute(
        f"SELECT place & 4294967295, at, epoch, actor, payload, digest, payload_digest FROM records "
        f"WHERE place > {place('root', FORKED_AT - 2)} AND place < {place('root', 4_000)} ORDER BY place"
    )
    previous = b""
    for position, at, epoch, actor, payload, digest, original in rows.fetchall():
        if position >= FORKED_AT:
            at += 1
            own = original or payload_digest(payload)
            digest = chain_digest(previous, own, position=position, at=at, epoch=epoch, actor=actor)
            update("root", position, "at = ?, digest = ?", at, digest)(c)
        previous = digest


async def verified(url: str, session: str) -> Verification:
    async with runtime(url, World(), worker=False) as rt:
        return await verify_session(rt.caller, session)


async def test_what_is_as_it_was_written_is_intact(written: Path, tmp_path: Path) -> None:
    url = damaged(written, tmp_path, lambda c: None)
    root, fork = await verified(url, "root"), await verified(url, "fork")
    assert (root.intact, root.records, root.inherited, root.redacted, root.blobs) == (True, root.head, 0, 1, 0)
    assert (fork.intact, fork.records, fork.inherited, fork.redacted, fork.blobs) == (True, fork.head, 11, 1, 1)
    async with runtime(url, World(), worker=False) as rt:
        assert [one async for one in sessions_all(rt.caller)] == ["root", "fork"]
        own = await verify_session(rt.caller, "fork", inherited=False)
        assert (own.intact, own.records) == (True, fork.head - FORKED_AT)
        with pytest.raises(NotFound):
            await verify_session(rt.caller, "nobody")


CASES: dict[str, tuple[Damage, str, tuple[str, int], str]] = {
    "a word": (
        update("root", 2, "payload = replace(payload, 'hello', 'adieu')"),
        "root",
        ("root", 2),
        "its content, its time, its epoch or its actor was changed",
    ),
    "a word, seen from the fork": (
        update("root", 2, "payload = replace(payload, 'hello', 'adieu')"),
        "fork",
        ("root", 2),
        "its content, its time",
    ),
    "a time": (update("root", 3, "at = at + 1"), "root", ("root", 3), "its content, its time"),
    "an actor": (update("root", 2, "actor = 'eve'"), "root", ("root", 2), "its content, its time"),
    "an epoch": (update("root", 4, "epoch = 9"), "root", ("root", 4), "its content, its time"),
    "a digest": (
        update("root", 5, "digest = zeroblob(32)"),
        "root",
        ("root", 5),
        "its digest was changed; its content is as it was written",
    ),
    "a record dropped": (drop("root", 5), "root", ("root", 5), "it is missing"),
    "the first dropped": (drop("root", 1), "root", ("root", 1), "it is missing"),
    "the last dropped": (drop("root", 27), "root", ("root", 27), "it is missing"),
    "dropped and closed up": (
        drop_and_close_up("root", 5, 27),
        "root",
        ("root", 5),
        "it does not follow from record 4: one of them was changed, replaced or dropped",
    ),
    "two exchanged": (
        exchange("root", 13, 15),
        "root",
        ("root", 13),
        "the record that belongs here stands at 15: records were put in another order",
    ),
    "one too many": (add("root", 28), "root", ("root", 28), "the session's row knows records up to 27 only"),
    "the head set back": (
        lambda c: c.execute("UPDATE heads SET head = 25 WHERE id = (SELECT id FROM sessions WHERE name = 'root')"),
        "root",
        ("root", 26),
        "the session's row knows records up to 25 only",
    ),
    "the source rewritten": (
        replace_the_fork_point,
        "fork",
        ("fork", 12),
        "it does not follow from record 11 of root, which it was forked from",
    ),
    "an erasure forged": (forge_erasure, "root", ("root", 2), "it was redacted, and what is left is not a skeleton"),
    "an erasure undone": (
        update("root", 7, "payload_digest = NULL"),
        "root",
        ("root", 7),
        "its content, its time",
    ),
    "an erasure nobody journaled": (
        update("root", 3, "payload_digest = ?, payload = ?", bytes(32), b'{"type":"CancelAsked","by":"eve"}'),
        "root",
        ("root", 3),
        "",
    ),
    "large content gone": (
        lambda c: c.execute("DELETE FROM blobs WHERE length(content) < 80000"),
        "fork",
        ("fork", 23),
        "its content is missing",
    ),
    "large content changed": (
        lambda c: c.execute("UPDATE blobs SET content = replace(content, 'long', 'wide')"),
        "fork",
        ("fork", 19),
        "the blob",
    ),
    "a result gone": (
        lambda c: c.execute("DELETE FROM blobs WHERE length(content) > 80000"),
        "fork",
        ("fork", 19),
        "that it names is missing or damaged",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_damage_is_found_where_it_was_done(case: str, written: Path, tmp_path: Path) -> None:
    damage, session, (owner, position), says = CASES[case]
    url = damaged(written, tmp_path, damage)
    found = await verified(url, session)
    assert not found.intact
    assert found.fault is not None
    assert (found.fault.session, found.fault.position) == (owner, position), found.fault
    assert says in found.fault.what


async def test_a_damaged_journal_is_not_exported(written: Path, tmp_path: Path) -> None:
    url = damaged(written, tmp_path, update("root", 2, "payload = replace(payload, 'hello', 'adieu')"))
    async with runtime(url, World(), worker=False) as rt:
        for session in ("root", "fork"):
            with pytest.raises(StoreCorrupt, match="record 2 is not as it was written"):
                await export_session(rt.caller, session, tmp_path / "s.zip")
        assert not list(Path.glob(tmp_path, "*.zip*"))


@pytest.mark.parametrize("damage", ["content", "header", "digest", "drop", "exchange"])
async def test_no_record_is_out_of_reach(damage: str, written: Path, tmp_path: Path) -> None:
    """Every record of the journal, damaged in turn: always found, never too late."""
    head = (await verified(damaged(written, tmp_path, lambda c: None), "root")).head
    for position in range(1, head + 1):
        done: dict[str, Damage] = {
            "content": update("root", position, "payload = payload || ' '"),
            "header": update("root", position, "epoch = epoch + 1"),
            "digest": update("root", position, "digest = ?", hashlib.sha256(b"%d" % position).digest()),
            "drop": drop("root", position),
            "exchange": exchange("root", position, position % head + 1),
        }
        found = await verified(damaged(written, tmp_path, done[damage]), "root")
        assert found.fault is not None, position
        # Without the record that announces it, the erasure of record 7 is the first thing that is wrong.
        assert found.fault.position == {("exchange", head): 1, ("drop", 22): 7}.get((damage, position), position)
