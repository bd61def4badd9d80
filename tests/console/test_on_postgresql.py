"""The pages of the console over PostgreSQL say what they say over SQLite."""

from __future__ import annotations

from pathlib import Path

import httpx2
import msgspec
from a_server import restore_into

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.app import open_database
from remanence.console.entry import Doors
from remanence.console.router import console_router, open_console

PATHS = (
    "/sessions.json?sort=cost",
    "/sessions.json?status=failed",
    "/sessions/one_tool.json",
    "/sessions/resumed_after_a_crash/steps/6.json",
    "/sessions/one_tool/prompts/4.json",
    "/sessions/one_tool/verify.json",
)


async def told(url: str) -> dict[str, object]:
    """What every path answers, over a database of golden journals; moments of the test left out."""
    database = await open_database(url)
    try:
        await restore_into(database)
    finally:
        await database.close()
    async with Remanence(url, worker=False) as rt:
        principal = development_principal("default")
        app = build_app(rt, faces=[console_router()], access=Access(rt.caller, own={"rmn_development_key": principal}))
        open_console(app, Doors({"link": principal}, "ada"))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7410") as http:
            await http.get("/?token=link")
            found: dict[str, object] = {}
            for path in PATHS:
                answer = await http.get(path)
                assert answer.status_code == 200, answer.text
                found[path] = msgspec.json.decode(answer.content)
                assert (await http.get(path.replace(".json", ""))).status_code == 200
            assert (await http.get("/")).status_code == 200
            return found


async def test_both_stores_say_the_same(tmp_path: Path, postgres_database: str) -> None:
    assert await told(postgres_database) == await told(f"sqlite:///{tmp_path}/a.db")
