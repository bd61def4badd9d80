"""A SQLite file that is removed or replaced while it is open: nothing more is acknowledged that nobody could read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.content import Text
from remanence.errors import StoreUnavailable
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, SessionQuery
from remanence.runtime.services import Times

TIMES = Times(poll_s=0.02, linger_s=0.05, retry_base_s=0.01, retry_cap_s=0.05, drain_s=1.0)
FILES = ("r.db", "r.db-wal", "r.db-shm")


def speak(request: ModelRequest) -> ModelReply:
    return ModelReply((Text("good day"),))


def moved(folder: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    for name in FILES:
        if (folder / name).exists():
            (folder / name).rename(to / name)


async def test_a_process_that_goes_elsewhere_keeps_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with Remanence("sqlite:///r.db", options=Options(model=Scripted(speak), times=TIMES)) as rt:
        monkeypatch.chdir(tmp_path / "elsewhere")
        session = await rt.open(Agent("host", model="scripted"))
        assert await session.send("hello") == "good day"
        assert len(await rt.database.views.sessions(SessionQuery())) == 1


@pytest.mark.parametrize("way", ["removed", "replaced"])
async def test_nothing_is_acknowledged_until_it_is_back(way: str, tmp_path: Path) -> None:
    url, away = f"sqlite:///{tmp_path}/r.db", tmp_path / "away"
    options = Options(model=Scripted(speak), times=TIMES)
    async with Remanence(url, options=options) as rt:
        session = await rt.open(Agent("host", model="scripted"))
        assert await session.send("hello") == "good day"
        await asyncio.to_thread(moved, tmp_path, away)
        if way == "replaced":
            async with Remanence(url, worker=False):
                pass
        with pytest.raises(StoreUnavailable, match="was removed, or another file was put in its place"):
            await session.submit("are you there?")
        if way == "replaced":
            await asyncio.to_thread(moved, tmp_path, tmp_path / "other")
        await asyncio.to_thread(moved, away, tmp_path)
        assert await session.send("and now?") == "good day"
        assert (await session.state()).turns == 2
