"""The pages of the console over PostgreSQL say what they say over SQLite, and ask each database once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx2
import msgspec
from a_server import restore_into

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.app import Options, open_database
from remanence.commands.search import catch_up
from remanence.commands.usage import bring_up_to_date
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.ports import Database

PATHS = (
    "/sessions.json?sort=cost",
    "/sessions.json?status=failed",
    "/sessions.json?q=refund&status=waiting",
    "/sessions/one_tool.json",
    "/sessions/one_tool.json?before=5",
    "/sessions/one_tool/records/3.json",
    "/playground/one_tool.json",
    "/inbox.json",
    "/agents.json",
    "/agents/support.json",
    "/cost.json?days=1",
    "/sessions/resumed_after_a_crash/steps/6.json",
    "/sessions/one_tool/prompts/4.json",
    "/sessions/one_tool/verify.json",
)


ONCE = (
    *(
        "/",
        "/home.json",
        "/home/parts",
        "/sessions",
        "/sessions?q=refund&agent=support",
        "/sessions?agent=support&version=1",
        "/sessions-rows?status=failed",
    ),
    *("/sessions/one_tool", "/sessions/one_tool?view=journal&at=3", "/sessions/one_tool/window?before=5"),
    *("/sessions/resumed_after_a_crash/steps/6", "/sessions/one_tool/records/3", "/playground/one_tool"),
    *("/playground/one_tool/steps", "/inbox", "/inbox/count", "/playground", "/agents", "/agents/support"),
    *("/cost?by=user&days=7", "/keys", "/views"),
)
"""Pages and parts of pages, each of which asks the database once."""


class Counted:
    """A database, or one of its parts, that writes down what it is asked."""

    def __init__(self, inner: Any, asked: list[str], name: str = "") -> None:
        self._inner = inner
        self._asked = asked
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not self._name and name in PARTS:
            return Counted(value, self._asked, name)
        if not callable(value):
            return value

        def counted(*args: Any, **more: Any) -> Any:
            self._asked.append(f"{self._name}.{name}")
            return value(*args, **more)

        return counted


PARTS = ("store", "specs", "blobs", "controls", "views", "screens", "registry", "memories", "memory_vectors")


@asynccontextmanager
async def looking(url: str) -> AsyncGenerator[tuple[httpx2.AsyncClient, list[str]]]:
    """Somebody signed in to a console over a database of golden journals, and what the database is asked."""
    database = await open_database(url)
    asked: list[str] = []
    try:
        await restore_into(database)
        options = Options(database=cast("Database", Counted(database, asked)))
        async with Remanence(url, worker=False, options=options) as rt:
            await catch_up(rt.caller, within_s=60)
            await bring_up_to_date(rt.caller)
            own = {"rmn_development_key": (principal := development_principal("default"))}
            app = build_app(rt, faces=ROOMS, access=Access(rt.caller, own=own))
            open_console(app, Doors({"link": principal}, "ada"))
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7410") as http:
                await http.get("/?token=link")
                yield http, asked
    finally:
        await database.close()


async def told(url: str) -> dict[str, object]:
    """What every path answers; moments of the test left out."""
    async with looking(url) as (http, _):
        found: dict[str, object] = {}
        for path in PATHS:
            answer = await http.get(path)
            assert answer.status_code == 200, answer.text
            found[path] = msgspec.json.decode(answer.content)
            assert (await http.get(path.replace(".json", ""))).status_code == 200
        assert (await http.get("/")).status_code == 200
        return found


async def check_once(url: str) -> None:
    async with looking(url) as (http, asked):
        asked.clear()
        for path in ONCE:
            answer = await http.get(path, headers={"accept": "text/html"})
            assert answer.status_code == 200, answer.text
            who, *page = asked
            assert who == "registry.get", "who looks is asked first"
            assert page in (["screens.ask"], ["registry.list"], ["screens.overview"]), f"{path}: {page}"
            asked.clear()


async def test_a_page_asks_sqlite_once(tmp_path: Path) -> None:
    await check_once(f"sqlite:///{tmp_path}/a.db")


async def test_a_page_asks_postgresql_once(postgres_database: str) -> None:
    await check_once(postgres_database)


async def test_both_stores_say_the_same(tmp_path: Path, postgres_database: str) -> None:
    assert await told(postgres_database) == await told(f"sqlite:///{tmp_path}/a.db")
