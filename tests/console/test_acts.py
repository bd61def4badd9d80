"""What a person does in a session: each act is one verb, in their name, and says in one sentence what it did."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from a_server import restore

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.auth import development_principal
from remanence.commands.caller import state_of
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.events import (
    ApprovalGiven,
    BudgetRaised,
    InputReceived,
    SessionForked,
    SessionFrozen,
    ToolResolved,
)

HOME = "http://127.0.0.1:7410"
HEADERS = {"hx-request": "true", "accept-language": "en"}


@asynccontextmanager
async def person(tmp_path: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, Remanence]]:
    """Grace, signed in, before every golden journal. Nothing runs: what she does stays to be looked at."""
    await restore(tmp_path / "data" / "a.db")
    async with Remanence(f"sqlite:///{tmp_path}/data/a.db", worker=False) as rt:
        app = build_app(rt, faces=ROOMS)
        principal = development_principal("default")
        app.state.access.keyring = app.state.access.keyring.__class__(
            rt.database.registry, rt.caller.clock, own={"rmn_development_key": principal}
        )
        open_console(app, Doors({"link": principal}, "grace"))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url=HOME, headers=HEADERS) as http:
            await http.get("/?token=link")
            yield http, rt


async def last(rt: Remanence, session: str, kind: type[Any]) -> Any:
    """The newest record of a kind, and who wrote it."""
    records = [r for r in await rt.database.store.read(session) if isinstance(r.event, kind)]
    assert records, f"{session} has no {kind.__name__}"
    assert records[-1].actor == "grace"
    return records[-1].event


async def test_saying_something(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, rt):
        answer = await http.post("/sessions/plain_chat/send", data={"text": "Grüße & <b>", "if_busy": "steer"})
        assert "Accepted at position <b>" in answer.text
        said = await last(rt, "plain_chat", InputReceived)
        assert (said.parts[0].text, said.if_busy) == ("Grüße & <b>", "steer")
        empty = await http.post("/sessions/plain_chat/send", data={"text": " ", "if_busy": "queue"})
        assert (empty.status_code, 'role="alert"' in empty.text) == (400, True)
        wrong = await http.post("/sessions/plain_chat/send", data={"text": "x", "if_busy": "shout"})
        assert wrong.status_code == 400


async def test_approving_binds_the_name(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, rt):
        s = await state_of(rt.caller, "approval_waiting")
        assert s.turn is not None
        call = s.turn.calls[0].call
        given = {"decision": "deny", "note": "not this one"}
        answer = await http.post(f"/sessions/approval_waiting/calls/{call}", data=given)
        assert "Denied, in the name of <b>grace</b>." in answer.text
        decided = await last(rt, "approval_waiting", ApprovalGiven)
        assert (decided.decision, decided.by, decided.note) == ("deny", "grace", "not this one")
        again = await http.post(f"/sessions/approval_waiting/calls/{call}", data=given)
        assert (again.status_code, "was not recorded" in again.text) == (409, True)


async def test_settling_a_doubt(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, rt):
        s = await state_of(rt.caller, "doubt_left_by_a_cancel")
        call = s.doubts[0].call
        outcome = {"outcome": "happened", "result": "paid", "note": "seen at the bank"}
        assert (await http.post(f"/sessions/{s.id}/doubts/{call}", data=outcome)).status_code == 200
        settled = await last(rt, s.id, ToolResolved)
        assert (settled.outcome, settled.by) == ("happened", "grace")
        assert (await state_of(rt.caller, s.id)).doubts == ()


async def test_freezing_and_thawing(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, rt):
        assert "Frozen" in (await http.post("/sessions/one_tool/freeze")).text
        assert (await last(rt, "one_tool", SessionFrozen)).by == "grace"
        assert (await http.post("/sessions/one_tool/freeze")).status_code == 409
        assert "Thawed" in (await http.post("/sessions/one_tool/thaw")).text


async def test_forking_leads_to_the_fork(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, rt):
        answer = await http.post("/sessions/window_cut/fork?turn=2")
        path = answer.headers["hx-redirect"]
        forked = await last(rt, path.rpartition("/")[2], SessionForked)
        assert forked.source == "window_cut"
        assert (await http.get(f"{path}.json")).json()["standing"]["session"]["turns"] == 2


async def test_cancelling_what_does_not_run_is_refused(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, _):
        answer = await http.post("/sessions/one_tool/cancel")
        assert (answer.status_code, "nothing to cancel" in answer.text) == (409, True)


@pytest.mark.parametrize(("typed", "raised"), [("0,5", 500_000), ("1.25", 1_250_000), ("1 000", 1_000_000_000)])
async def test_raising_the_budget_it_waits_for(tmp_path: Path, typed: str, raised: int) -> None:
    async with person(tmp_path) as (http, rt):
        paused = "budget_reached"
        s = await state_of(rt.caller, paused)
        assert s.pause is not None
        limit = s.pause.limit
        await rt.database.controls.set_budget(s.pause.scope, s.pause.unit, limit, at=1, spent=limit)
        answer = await http.post(f"/sessions/{paused}/raise", data={"amount": typed})
        assert answer.status_code == 200, answer.text
        assert (await last(rt, paused, BudgetRaised)).limit == limit + raised
        assert (await http.post(f"/sessions/{paused}/raise", data={"amount": "much"})).status_code in (400, 409)


async def test_taking_a_session_along(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, _):
        made = await http.post("/sessions/one_tool/send", data={"text": "Hello", "if_busy": "queue"})
        assert made.status_code == 200
        answer = await http.get("/sessions/one_tool/export")
        assert answer.status_code == 200, answer.text
        assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
        assert "one_tool.remanence" in answer.headers["content-disposition"]


async def test_the_twin_of_each_page_says_what_it_shows(tmp_path: Path) -> None:
    async with person(tmp_path) as (http, _):
        session = (await http.get("/sessions/one_tool.json")).json()
        assert [record["position"] for record in session["records"]] == list(range(1, 12))
        assert session["window"] == {"first": 1, "last": 11, "earlier": False, "later": False}
        step = (await http.get("/sessions/one_tool/steps/6.json")).json()
        assert (step["row"]["name"], step["row"]["kind"]) == ("find_order", "tool")
        prompt = (await http.get("/sessions/one_tool/prompts/4.json")).json()
        assert prompt["messages"][0]["role"] == "user"
        assert (await http.get("/sessions/one_tool/verify.json")).json()["faults"] == 0
        assert (await http.get("/sessions/one_tool/steps/99.json")).status_code == 404
        assert (await http.get("/sessions/one_tool/prompts/1.json")).status_code == 404
        listed = (await http.get("/sessions.json?status=failed")).json()
        assert {row["status"] for row in listed["sessions"]} == {"failed"}
        assert (await http.get("/sessions.json?sort=beauty")).status_code == 400
        assert (await http.get("/sessions.json?tag=oops")).status_code == 400
        assert (await http.get("/sessions.json?since=yesterday")).status_code == 400
        assert (await http.get("/home.json")).json()["sums"]["waiting"] >= 1
