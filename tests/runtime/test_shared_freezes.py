"""Freezes of agents: each is one project's own, and what an older release froze everywhere stays frozen everywhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.runtime.shop import FAST, Shop, call, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands import controls
from remanence.core.freezes import covered, freeze_scopes, plain_scope
from remanence.errors import Frozen, NotFound
from remanence.events import ModelCalled, ToolStarted
from remanence.models.scripted import Scripted
from remanence.ports import Hold, Write
from remanence.session import Session
from remanence.stores.postgres.connect import SCHEMA

SCOPE = "agent:shop"
PROJECTS = ("default", "acme", "a:b%")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_database")
    else:
        yield f"sqlite:///{tmp_path}/shop.db"


def _of(project: str) -> Options:
    return Options(project=project, model=Scripted(script), times=FAST)


async def last_intent(session: Session) -> tuple[str, int]:
    found = [r.position for r in await session.history() if isinstance(r.event, (ModelCalled, ToolStarted))]
    return session.id, found[-1]


async def test_a_freeze_of_an_agent_is_one_projects_own(url: str) -> None:
    agent = Shop().agent()
    ours = Options(model=Scripted(script), times=FAST)
    async with Remanence(url, agents=[agent], options=ours) as rt:
        theirs = Options(project="acme", model=Scripted(script), times=FAST, database=rt.database)
        async with Remanence(agents=[agent], options=theirs) as other:
            mine, away = await rt.open(agent), await other.open(agent)
            await away.submit(call("look", n=1))
            await until(away, lambda s: s.turn is None and s.turns)
            await mine.submit(call("look", n=1))
            await until(mine, lambda s: s.turn is None and s.turns)
            hold = await other.freeze(SCOPE, reason="drill")
            assert (hold.scope, hold.last_effect) == (SCOPE, await last_intent(away))
            assert [h.scope for h in await controls.freezes_of(other.caller)] == [SCOPE]
            assert await controls.freezes_of(rt.caller) == []
            with pytest.raises(NotFound, match="'agent:shop'"):
                await rt.thaw(SCOPE)
            await away.submit("kept, and not answered yet")
            await mine.submit(call("look", n=2))
            await until(mine, lambda s: s.turn is None and s.turns == 2)
            assert await last_intent(away) == hold.last_effect
            await other.thaw(SCOPE)
            await until(away, lambda s: s.turn is None and s.turns == 2 and not s.queue)


def test_a_scope_names_one_agent_of_one_project() -> None:
    pairs = [(project, agent) for project in ("default", "a", "a:b", "a%3Ab", "agent@a", "") for agent in ("x", "b:x")]
    kept = {freeze_scopes(*pair)[2]: pair for pair in pairs}
    assert len(kept) == len(pairs)
    assert {scope: covered(scope) for scope in kept} == kept
    assert {plain_scope(scope) for scope in kept} == {"agent:x", "agent:b:x"}
    assert [covered(scope) for scope in freeze_scopes("a", "x")[:2]] == [(None, None), ("a", None)]
    for scope in ("user:x", "agent", "agent@default:x", "agent@a%:x", "project@a:x", ""):
        assert covered(scope) is None


# --- what an older release left ---------------------------------------------------------------------------------------

OLD = (
    "DELETE FROM migrations WHERE name = 'freezes_of_projects'",
    "INSERT INTO holds (scope, at, held_by, reason) VALUES ('agent:shop', 5, 'ada', 'drill')",
    "INSERT INTO holds (scope, at, held_by, reason) VALUES ('project:acme', 6, 'ada', '')",
)
OLD_SQLITE = (
    "UPDATE effects SET place = (SELECT max(place) FROM effects) WHERE scope = 'agent:shop'",
    "DELETE FROM effects WHERE scope LIKE 'agent@%'",
)


async def _age(url: str) -> None:
    """Bring the database back to what an older release left."""
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
        for statement in (*OLD, "DROP FUNCTION agent_scope"):
            await connection.execute(statement)
        await connection.close()
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            for statement in (*OLD, *OLD_SQLITE):
                file.execute(statement)


async def _start(session: Session, rt: Remanence) -> None:
    intent = ModelCalled("model_9_9", 0, "scripted", 0, 0, "")
    await rt.database.store.append(Write(session.id, (intent,), 9, "ada", effects=True))


async def test_what_was_frozen_everywhere_stays_frozen_everywhere(url: str) -> None:
    shop, last = Shop(), dict[str, tuple[str, int]]()
    for project in PROJECTS:
        for name in ("older", "newer", "unused"):
            async with Remanence(url, agents=[shop.agent()], options=_of(project)) as rt:
                session = await rt.open(shop.agent())
                if name != "unused":
                    await session.submit(call("look", n=1) if name == "newer" else "x" * 100_000)
                    await until(session, lambda s: s.turn is None and s.turns)
                    last[project] = await last_intent(session)
    await _age(url)
    for project, scope in zip(PROJECTS, (SCOPE, "agent@acme:shop", "agent@a%3Ab%25:shop"), strict=True):
        async with Remanence(url, agents=[shop.agent()], options=_of(project)) as rt:
            found = {hold.scope: hold for hold in await rt.database.controls.holds()}
            assert found.pop(scope) == Hold(scope, 5, "ada", "drill", last[project])
            assert len(found) == len(PROJECTS) - PROJECTS.index(project)
            session = await rt.open(shop.agent())
            with pytest.raises(Frozen):
                await _start(session, rt)
            await rt.thaw(SCOPE)
            if project != "acme":
                await _start(session, rt)
