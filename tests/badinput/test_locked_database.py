"""A database that another process keeps locked: calls say so after a while, and what was acknowledged goes on after."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.runtime.shop import Shop, call, kinds, runtime, until

from remanence.commands.transfer import verify_session
from remanence.errors import StoreUnavailable
from remanence.events import InputReceived

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Another process has the write lock meanwhile."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.stdin.write("\n")
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()


async def test_locked_past_the_time_out(tmp_path: Path) -> None:
    """A person is told; an effect that ran meanwhile keeps its outcome until the lock is gone."""
    shop = Shop()
    async with runtime(tmp_path, None, shop.agent()) as rt:
        session = await rt.open("shop")
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        with locked(tmp_path / "shop.db"):
            shop.gate.set()
            with pytest.raises(StoreUnavailable) as caught:
                await session.submit("are you there?")
            # Reading goes on: it never waits for a writer.
            assert (await kinds(session))[-1] == "ToolStarted"
        message = caught.value.message
        assert "was locked by another process for more than 5 s" in message
        assert "everything acknowledged before is safe" in message
        assert "Try again, or see who holds the file." in message
        await until(session, lambda state: state.turns == 1 and state.turn is None)
        found = await kinds(session)
        assert (shop.calls["hold"], found.count("ToolStarted"), found.count("ToolReturned")) == (1, 1, 1)
        assert len([r for r in await session.history() if isinstance(r.event, InputReceived)]) == 1
        assert await session.send("are you there?")
        assert (await verify_session(rt.caller, session.id)).intact


async def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        session = await rt.open("shop")
        with locked(tmp_path / "shop.db"):
            sending = asyncio.create_task(session.submit("hello"))
            await asyncio.sleep(0.3)
            assert not sending.done()
        assert (await sending).head
