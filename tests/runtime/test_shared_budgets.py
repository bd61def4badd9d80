"""Budgets that sessions share: whose they are, and how a pause at one ends when somebody else's call made room."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.runtime.shop import FAST, Shop, kinds, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands import controls
from remanence.core.ledger import kept_scope, own_scope
from remanence.events import BudgetRaised
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.spec import Limits
from remanence.stores.postgres.connect import SCHEMA

FRUGAL = Limits(output_tokens=500)
SCOPE = "agent:shop"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_database")
    else:
        yield f"sqlite:///{tmp_path}/shop.db"


class Held(Scripted):
    """Whoever says `wait` is answered when the gate opens."""

    def __init__(self) -> None:
        super().__init__(script)
        self.gate = asyncio.Event()
        self.called = asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if last_user_text(request).startswith("wait"):
            self.called.set()
            await self.gate.wait()
        return await super().reply(request, on_delta)


async def test_a_pause_ends_by_itself_when_room_is_made(url: str) -> None:
    model, agent = Held(), Shop().agent(limits=FRUGAL)
    async with Remanence(url, agents=[agent], options=Options(model=model, times=FAST)) as rt:
        await rt.set_budget(SCOPE, tokens=1_000_000)
        first, second = await rt.open(agent), await rt.open(agent)
        await first.submit("wait")
        await model.called.wait()
        (budget,) = await rt.database.controls.budgets(SCOPE)
        limit = budget.reserved + budget.reserved // 2
        await rt.set_budget(SCOPE, tokens=limit)
        await second.submit("hello")
        state = await until(second, lambda s: s.pause)
        assert state.pause is not None
        assert state.pause.used == budget.reserved
        async with asyncio.timeout(60):
            while (row := await rt.database.views.session(second.id)).lease_until is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert row.wake_at is not None, "it is looked at again"
        model.gate.set()
        await until(second, lambda s: s.turn is None and s.turns)
        events = [record.event for record in await second.history()]
        assert [e.by for e in events if isinstance(e, BudgetRaised)] == ["calls that ended made room"]
        (budget,) = await rt.database.controls.budgets(SCOPE)
        assert (budget.reserved, budget.limit) == (0, limit)
        assert 0 < budget.spent <= limit


async def test_a_budget_that_is_spent_is_not_looked_at_again(url: str) -> None:
    agent = Shop().agent(limits=FRUGAL)
    async with Remanence(url, agents=[agent], options=Options(model=Scripted(script), times=FAST)) as rt:
        await rt.set_budget(SCOPE, tokens=10)
        session = await rt.open(agent)
        await session.submit("hello")
        await until(session, lambda s: s.pause)
        async with asyncio.timeout(60):
            while (row := await rt.database.views.session(session.id)).lease_until is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert row.wake_at is None
        await rt.raise_budget(SCOPE, tokens=100_000)
        await until(session, lambda s: s.turn is None and s.turns)
        assert (await kinds(session)).count("BudgetReached") == 1


async def test_a_budget_belongs_to_one_project(url: str) -> None:
    agent, model = Shop().agent(limits=FRUGAL), Scripted(script)
    mine = Options(model=model, times=FAST)
    async with Remanence(url, agents=[agent], options=mine) as rt:
        theirs = Options(model=model, times=FAST, project="acme: ltd", database=rt.database)
        async with Remanence(agents=[agent], options=theirs) as other:
            for scope in (SCOPE, "user:ada"):
                await other.set_budget(scope, tokens=10)
                await rt.set_budget(scope, tokens=1_000_000)
            assert [b.scope for b in await controls.budgets_of(other.caller)] == [SCOPE, "user:ada"]
            assert [b.limit for b in await controls.budgets_of(rt.caller)] == [1_000_000, 1_000_000]
            session, held_up = await rt.open(agent, user="ada"), await other.open(agent, user="ada")
            await session.submit("hello")
            await held_up.submit("hello")
            await until(session, lambda s: s.turn is None and s.turns)
            state = await until(held_up, lambda s: s.pause)
            assert state.pause is not None
            assert [b.spent for b in await controls.budgets_of(other.caller)] == [0, 0]
            for scope in (state.pause.scope, "user:ada"):  # as the journal says it, or as the project does
                await other.raise_budget(scope, tokens=100_000)
            await until(held_up, lambda s: s.turn is None and s.turns)


def test_a_name_is_one_projects_own() -> None:
    kept = {
        kept_scope(project, scope)
        for project in ("default", "a", "a:b", "a%3Ab", "agent@a")
        for scope in ("agent:x", "agent:b:x", "user:x")
    }
    assert len(kept) == 15
    assert own_scope("a:b", kept_scope("a:b", "agent:x")) == "agent:x"
    assert own_scope("a", kept_scope("a:b", "agent:x")) is None
    assert own_scope("default", kept_scope("a", "user:x")) is None
    assert own_scope("a", "user:x") is None
    assert own_scope("a", "project:a") == "project:a"
    assert own_scope("a", "project:b") is None


OLD = (
    "DELETE FROM migrations WHERE name = 'budgets_of_projects'",
    "INSERT INTO budgets (scope, unit, ceiling, spent, reserved, at) VALUES ('agent:shop', 'tokens', 100, 7, 50, 1)",
    "INSERT INTO budgets (scope, unit, ceiling, spent, reserved, at) VALUES ('user:ada', 'tokens', 100, 0, 30, 1)",
    "INSERT INTO budgets (scope, unit, ceiling, spent, reserved, at) VALUES ('project:acme', 'tokens', 9, 0, 4, 1)",
    "INSERT INTO reservations (key, scope, unit, amount) VALUES ('ours:model_1_1:1', 'agent:shop', 'tokens', 20)",
    "INSERT INTO reservations (key, scope, unit, amount) VALUES ('theirs:model_1_1:1', 'agent:shop', 'tokens', 30)",
    "INSERT INTO reservations (key, scope, unit, amount) VALUES ('theirs:model_1_1:1', 'user:ada', 'tokens', 30)",
)


async def _age(url: str) -> None:
    """Bring the database back to what an older release left."""
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
        for statement in OLD:
            await connection.execute(statement)
        await connection.close()
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            for statement in OLD:
                file.execute(statement)


async def test_what_projects_shared_becomes_a_budget_of_each(url: str) -> None:
    agent = Shop().agent()
    for project, name in (("default", "ours"), ("acme", "theirs")):
        async with Remanence(url, options=Options(project=project, make_id=lambda _, name=name: name)) as rt:
            await rt.open(agent)
    await _age(url)
    async with Remanence(url) as rt:
        found = {b.scope: (b.limit, b.spent, b.reserved) for b in await rt.database.controls.budgets()}
    assert found == {
        "agent:shop": (100, 7, 20),
        "agent@acme:shop": (100, 7, 30),
        "project:acme": (9, 0, 4),
        "user:ada": (100, 0, 0),
        "user@acme:ada": (100, 0, 30),
    }
