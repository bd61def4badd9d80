"""An `Idempotency-Key` on what people do to a session: done once, also when its server died before it answered.

What such a server leaves is the fact in the journal, and no answer under the key. Meanwhile the session has gone on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from chat_server import serving
from msgspec.structs import replace
from test_admin import Admin, refund

from remanence import Agent, Remanence, tool
from remanence.api.admin.face import admin_router
from remanence.api.once import KIND
from remanence.commands import controls
from remanence.commands.entries import entries_of
from remanence.core.builtins import ASK_HUMAN
from remanence.errors import EffectInDoubt
from remanence.models.scripted import Scripted
from remanence.testing.faults.fuse import FaultyDatabase, Fuse, Killed
from remanence.testing.scripted import Script, call, calls, dialogue, says


@tool(replay="never")
def pay(cents: int) -> str:
    """Pay, over a line that breaks."""
    raise EffectInDoubt("the line broke")


SCRIPT = Script(
    dialogues=(
        dialogue("money", calls(call("refund", cents=99)), says("done: $result")),
        dialogue("ask", calls(call("ask_human", question="Why?")), says("because $result")),
        dialogue("pay", calls(call("pay", cents=1)), says("paid: $result")),
        dialogue("", says("You said: $user")),
    )
)


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    support = Agent("support", model="test", tools=[refund, pay, ASK_HUMAN])
    async with (
        Remanence(database, models={"test": Scripted(SCRIPT)}, agents=[support]) as rt,
        serving(rt, [("", admin_router)]) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        yield Admin(http, rt)


async def opened(admin: Admin, text: str, status: str) -> str:
    session = (await admin.rt.open("support")).id
    await said(admin, session, text, status)
    return session


async def said(admin: Admin, session: str, text: str, status: str) -> None:
    await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": text})
    await admin.until(session, status)


async def journal(admin: Admin, session: str) -> Any:
    return (await admin.ask("GET", f"/sessions/{session}/records"))["data"]


async def asked(admin: Admin, path: str, expected: int, body: dict[str, Any]) -> Any:
    return await admin.ask("POST", path, expected, json=body, headers={"idempotency-key": "one"})


async def again(admin: Admin, path: str, expected: int, body: dict[str, Any]) -> Any:
    """The same request at a server that knows of no answer."""
    await lose_answers(admin)
    return await asked(admin, path, expected, body)


async def lose_answers(admin: Admin) -> None:
    for answer in await entries_of(admin.rt.caller, KIND, project="default"):
        await admin.rt.database.registry.remove(KIND, answer.id)


async def test_a_cancel_that_comes_again_stops_no_later_turn(admin: Admin) -> None:
    session = await opened(admin, "ask", "waiting")
    path = f"/sessions/{session}/cancel"
    first = await asked(admin, path, 202, {"reason": "too long"})
    await admin.until(session, "idle")
    await said(admin, session, "ask", "waiting")
    records = await journal(admin, session)
    second = await again(admin, path, 202, {"reason": "too long"})
    assert (second["position"], second["replayed"]) == (first["position"], True)
    assert await journal(admin, session) == records


async def test_a_fork_that_comes_again_is_the_same_session(admin: Admin) -> None:
    session = await opened(admin, "hello", "idle")
    first = await asked(admin, f"/sessions/{session}/fork", 201, {"turn": 1})
    await said(admin, first["session"], "and there", "idle")
    second = await again(admin, f"/sessions/{session}/fork", 201, {"turn": 1})
    assert (second["session"], second["turns"]) == (first["session"], 2)
    await asked(admin, f"/sessions/{session}/fork", 409, {})


async def test_a_freeze_and_a_thaw_that_come_again_undo_nothing(admin: Admin) -> None:
    session = await opened(admin, "hello", "idle")
    freeze, thaw = f"/sessions/{session}/freeze", f"/sessions/{session}/thaw"
    await asked(admin, freeze, 200, {"reason": "a look"})
    await admin.ask("POST", thaw, json={})
    assert (await again(admin, freeze, 200, {"reason": "a look"}))["status"] == "idle"
    thawed = {"headers": {"idempotency-key": "two"}, "json": {}}
    await admin.ask("POST", freeze, json={})
    await admin.ask("POST", thaw, **thawed)
    await admin.ask("POST", freeze, json={})
    await lose_answers(admin)
    assert (await admin.ask("POST", thaw, **thawed))["status"] == "frozen"


@pytest.mark.parametrize(
    ("text", "kind", "body"),
    [
        ("money", "approvals", {"decision": "approve", "note": "fine"}),
        ("money", "approvals", {"decision": "deny"}),
        ("ask", "questions", {"text": "so"}),
        ("pay", "doubts", {"outcome": "happened", "result": "paid"}),
    ],
)
async def test_an_answer_that_comes_again_is_what_it_was(
    admin: Admin, text: str, kind: str, body: dict[str, Any]
) -> None:
    session = await opened(admin, text, "waiting")
    s = await (await admin.rt.get(session)).state()
    waits = s.doubts[0].call if s.doubts else s.turn.calls[0].call if s.turn else ""
    path = f"/{kind}/{session}/{waits}"
    first = await asked(admin, path, 200, body)
    await admin.until(session, "idle")
    records = await journal(admin, session)
    second = await again(admin, path, 200, body)
    assert {**second, "replayed": False} == {**first, "replayed": False}
    assert await journal(admin, session) == records


async def test_what_is_said_in_a_session_has_keys_of_its_own(admin: Admin) -> None:
    """Each session may count from one, also beside what is done to it."""
    session = await opened(admin, "ask", "waiting")
    await asked(admin, f"/sessions/{session}/cancel", 202, {})
    await admin.until(session, "idle")
    await asked(admin, f"/sessions/{session}/send", 202, {"text": "hello"})
    await admin.until(session, "idle")


@pytest.mark.parametrize("change", [{"raise_by": 50}, {"raise_to": 150}, {"limit": 150}])
async def test_a_budget_is_changed_once(admin: Admin, change: dict[str, int]) -> None:
    budget = {"scope": "user:ada", "unit": "tokens"}
    await admin.ask("PUT", "/budgets", json={**budget, "limit": 100})
    keyed: dict[str, Any] = {"headers": {"idempotency-key": "one"}, "json": {**budget, **change}}
    assert (await admin.ask("PUT", "/budgets", **keyed))["limit"] == 150
    await admin.ask("PUT", "/budgets", json={**budget, "limit": 120})
    await lose_answers(admin)
    assert (await admin.ask("PUT", "/budgets", **keyed))["limit"] == 120
    keyed["json"] |= dict.fromkeys(change, 500)
    await lose_answers(admin)
    await admin.ask("PUT", "/budgets", 409, **keyed)


async def test_who_paused_at_a_budget_goes_on_though_whoever_raised_it_died(admin: Admin) -> None:
    """Between the raise, with its mark, and the sessions that it lets go on."""
    await admin.rt.set_budget("agent:support", tokens=1)
    session = await opened(admin, "hello", "budget_reached")
    caller = admin.rt.caller
    dying = replace(caller, database=FaultyDatabase(caller.database, Fuse(1, lambda: None)))
    with pytest.raises(Killed):
        await controls.raise_budget(dying, "agent:support", "tokens", to=1_000_000)
    assert (await admin.ask("GET", f"/sessions/{session}"))["status"] == "budget_reached"
    await controls.changed_before(caller, "agent:support", "tokens")
    await admin.until(session, "idle")


async def test_a_freeze_of_many_sessions_comes_once(admin: Admin) -> None:
    body = {"scope": "agent:support", "reason": "a look"}
    await opened(admin, "hello", "idle")
    first = await asked(admin, "/freezes", 201, body)
    assert await again(admin, "/freezes", 201, body) == first
    await admin.ask("DELETE", "/freezes/agent:support")
    assert (await again(admin, "/freezes", 201, body))["frozen"] is False
    assert (await admin.ask("GET", "/freezes"))["data"] == []
