"""The inbox, the playground, agents, cost, keys and views: what each does, refuses, and lets a smaller key do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from remanence import Agent, Remanence, tool
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.app import Options
from remanence.app import Session as Handle
from remanence.commands import keys, versions
from remanence.commands.caller import state_of
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.content import Text, ToolCall
from remanence.core.builtins import ASK_HUMAN
from remanence.core.state import Session, waiting_on
from remanence.errors import EffectInDoubt
from remanence.events import ApprovalGiven, ToolResolved
from remanence.models.scripted import Scripted, last_result, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest
from remanence.runtime.services import Times
from remanence.spec import AskRule

HOME, LINK = "http://127.0.0.1:7410", "the_link_that_was_printed"
MEANT = {"hx-request": "true"}
QUICK = Times(lease_s=5.0, linger_s=0.05, poll_s=0.02, drain_s=2.0)


def script(request: ModelRequest) -> ModelReply:
    """Calls the tool that the last message names; repeats it when there is none."""
    text = last_user_text(request) or ""
    name, _, arguments = text.partition(" ")
    if step_of(request) == 0 and arguments.startswith("{"):
        return ModelReply((ToolCall("c1", name, arguments),))
    return ModelReply((Text(last_result(request) or f"You said {text}"),))


@tool(replay="never", approval="cents > 5000")
async def refund(order: str, cents: int) -> str:
    """Refund an order."""
    return f"refunded {cents} for {order}"


@tool(replay="never")
async def mail(to: str) -> str:
    """Send a mail."""
    raise EffectInDoubt("the server hung up")


SUPPORT = Agent("support", model="test", instructions="Be kind.", tools=[refund, mail, ASK_HUMAN])
CAREFUL = Agent("careful", model="test", tools=[refund], rules=[AskRule("refund", needed=2, expires_s=3_600.0)])


class Room:
    """A console over a worker that runs; `http` is signed in as `ada`, who came by the link."""

    def __init__(self, rt: Remanence, http: httpx2.AsyncClient) -> None:
        self.rt = rt
        self.http = http

    async def look(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path, headers={"accept": "text/html"})
        assert answer.status_code == status, answer.text
        return answer.text

    async def twin(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def act(self, path: str, status: int = 200, **fields: Any) -> str:
        answer = await self.http.post(path, data=fields, headers=MEANT)
        assert answer.status_code == status, answer.text
        return answer.headers.get("hx-redirect", "") if status == 204 else answer.text

    async def waiting(
        self, agent: Agent, text: str, fits: Callable[[Session], object], title: str | None = None
    ) -> Handle:
        """A session in which this was said, once it is as it should be."""
        session = await self.rt.open(agent, user="bob", title=text[:12] if title is None else title)
        await session.submit(text)
        while not fits(await session.state()):
            await self.rt.caller.clock.sleep(0.01)
        return session

    async def asked(self, agent: Agent, **arguments: Any) -> Handle:
        return await self.waiting(agent, f"refund {json.dumps(arguments)}", is_asked)

    @asynccontextmanager
    async def somebody(self, name: str, *scopes: str) -> AsyncGenerator[Room]:
        """The same room for whoever has another key."""
        _, text = await keys.create_key(self.rt.caller, name, scopes=scopes)
        async with httpx2.AsyncClient(transport=self.http._transport, base_url=HOME) as http:  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
            await http.post("/sign-in", data={"key": text, "to": "/"})
            yield Room(self.rt, http)


def is_asked(s: Session) -> bool:
    return s.turn is not None and any(call.state == "asked" for call in s.turn.calls)


def is_over(s: Session) -> bool:
    return s.turns > 0 and s.turn is None


@asynccontextmanager
async def room(tmp_path: Path) -> AsyncGenerator[Room]:
    options = Options(times=QUICK, actor="local")
    agents = [SUPPORT, CAREFUL]
    models = {"test": Scripted(script), "other": Scripted(script)}
    async with Remanence(f"sqlite:///{tmp_path}/a.db", agents=agents, models=models, options=options) as rt:
        principal = development_principal("default")
        app = build_app(rt, faces=ROOMS, access=Access(rt.caller, own={"rmn_own": principal}))
        open_console(app, Doors({LINK: principal}, "ada", "scripted"))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=HOME) as http:
            await http.get(f"/?token={LINK}")
            yield Room(rt, http)


async def answers(session: Handle) -> list[tuple[str, str, str]]:
    """Every answer in a journal: the decision, by whom, with which note."""
    events = [record.event for record in await session.history()]
    return [(event.decision, event.by, event.note) for event in events if isinstance(event, ApprovalGiven)]


def choice(session: Handle, call: str = "call_1_1_1") -> str:
    return f"{session.id} {call}"


# --- the inbox --------------------------------------------------------------------------------------------------------


async def test_several_calls_are_decided_at_once_in_the_name_of_a_person(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        first = await here.asked(SUPPORT, order="1", cents=9_000)
        second = await here.asked(SUPPORT, order="2", cents=9_000)
        third = await here.asked(SUPPORT, order="3", cents=7_000)
        found = await here.twin("/inbox.json")
        assert [one["approval"]["session"] for one in found["approvals"]] == [third.id, second.id, first.id]
        differing = [[row["path"] for row in one["arguments"] if row["differs"]] for one in found["approvals"]]
        assert differing == [[], ["order", "cents"], ["order"]]
        fields = {"choose": [choice(first), choice(second), "nobody call_1"], "note": "as agreed"}
        said = await here.act("/inbox/decide", decision="approve", **fields)
        assert "<b>2</b> calls approved, in the name of <b>ada</b>" in said
        assert "nobody" in said
        assert f"ask-{third.id}" in said
        assert f"ask-{first.id}" not in said
        assert await answers(first) == await answers(second) == [("approve", "ada", "as agreed")]
        assert await answers(third) == []
        assert "<b>1</b> call denied" in await here.act("/inbox/decide", decision="deny", choose=choice(third))
        assert "Nobody waits for you" in await here.look("/inbox")
        again = await here.act("/inbox/decide", decision="deny", choose=choice(third))
        assert "<b>0</b> calls denied" in again
        await here.act("/inbox/decide", 400, decision="approve")


async def test_a_second_person_is_needed_where_the_rule_wants_one(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.asked(CAREFUL, order="1", cents=9_000)
        assert "0 of 2 people have said yes" in await here.look("/inbox")
        await here.act("/inbox/decide", decision="approve", choose=choice(session))
        page = await here.look("/inbox")
        assert "1 of 2 people have said yes" in page
        assert "You have said yes. Somebody else has to say so as well." in page
        twice = await here.act("/inbox/decide", decision="approve", choose=choice(session))
        assert "has approved this call already" in twice
        async with here.somebody("carol", "admin") as other:
            assert (await other.twin("/inbox.json"))["approvals"][0]["may"] == "yes"
            await other.act("/inbox/decide", decision="approve", choose=choice(session))
        given = await answers(session)
        assert given[0][:2] == ("approve", "ada")
        assert given[1][1].startswith("key:")


async def test_questions_and_doubts_are_answered(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        question = {"question": "Which address?", "options": ["here", "there"]}
        asks = await here.waiting(SUPPORT, f"ask_human {json.dumps(question)}", lambda s: waiting_on(s) == "answer")
        doubts = await here.waiting(SUPPORT, 'mail {"to": "bob"}', lambda s: s.doubts)
        page = await here.look("/inbox")
        assert "Which address?" in page
        assert "the server hung up" in page
        assert await here.look("/inbox/count") == "2"
        await here.act("/inbox/answer", choose=choice(asks), text="there")
        await here.act("/inbox/settle", choose=choice(doubts), outcome="happened", result="sent", note="I asked them")
        settled = [r.event for r in await doubts.history() if isinstance(r.event, ToolResolved)]
        assert [(event.outcome, event.by, event.note) for event in settled] == [("happened", "ada", "I asked them")]
        while await here.look("/inbox/count"):
            await here.rt.caller.clock.sleep(0.02)


async def test_a_smaller_key_may_look_and_not_decide(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.asked(SUPPORT, order="1", cents=9_000)
        async with here.somebody("reader", "read") as other:
            assert "Your key may look, not decide." in await other.look("/inbox")
            await other.act("/inbox/decide", 403, decision="approve", choose=choice(session))
            await other.act("/playground", 403, agent="support", version="1", text="hi")
            await other.act("/cost/budgets", 403, scope="user:bob", unit="tokens", amount="1", act="set")
            await other.act("/views", 403, name="x", query="agent=y")
            await other.look("/keys", 403)
            await other.look("/cost")
            await other.look("/agents/support")
        assert await answers(session) == []


# --- keys, cost, agents -----------------------------------------------------------------------------------------------


async def test_a_key_is_shown_once(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        made = await here.act("/keys", name="carol", scopes=["read", "admin"], days="30")
        found = re.search(r"rmn_\w+_[\w-]+", made)
        assert found is not None
        principal = await keys.Keyring(here.rt.database.registry, here.rt.caller.clock).check(found[0])
        assert (principal.scopes, principal.project) == ({"read", "admin"}, "default")
        page = await here.look("/keys")
        assert "carol" in page
        assert found[0] not in page
        (key,) = (await here.twin("/keys.json"))["keys"]
        assert "opens nothing any more" in await here.act(f"/keys/{key['id']}/revoke")
        assert "revoked" in await here.look("/keys")
        await here.act("/keys", 400, name="dave", scopes=["everything"], days="0")
        await here.act("/keys", 400, name="dave", scopes=["api"], days="soon")


async def test_cost_and_budgets(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.waiting(SUPPORT, "hello", is_over)
        for by in ("agent", "user", "model"):
            found = await here.twin(f"/cost.json?by={by}&days=7")
            assert [(row["key"][by], row["calls"]) for row in found["rows"]] == [
                ({"agent": "support", "user": "bob", "model": "test"}[by], 1)
            ]
        assert "By day" in await here.look("/cost")
        await here.look("/cost?days=5", 400)
        said = await here.act("/cost/budgets", scope="agent:support", unit="usd_micros", amount="2,50", act="set")
        assert "<b>$2.50</b>" in said
        said = await here.act("/cost/budgets", scope="agent:support", unit="usd_micros", amount="0.5", act="raise")
        assert "<b>$3.00</b>" in said
        await here.act("/cost/budgets", 404, scope="project:other", unit="tokens", amount="1", act="set")
        await here.act("/cost/budgets", 400, scope="user:bob", unit="tokens", amount="much", act="set")


async def test_agents_their_versions_and_what_changed(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.waiting(SUPPORT, "hello", is_over)
        kinder = Agent("support", model="test", instructions="Be kinder.", tools=[refund, mail, ASK_HUMAN])
        await here.rt.database.specs.put(kinder.spec, project="default", at=here.rt.caller.clock.now())
        assert "support" in await here.look("/agents")
        found = await here.twin("/agents/support.json")
        assert (found["number"], found["against"]) == (2, 1)
        assert [one["sessions"] for one in found["versions"]] == [0, 1]
        assert "-instructions: Be kind." in found["diff"]
        tools = {one["name"]: one for one in found["tools"]}
        assert (tools["refund"]["replay"], tools["ask_human"]["kind"]) == ("never", "builtin")
        assert [rule["verdict"] for rule in tools["refund"]["rules"]] == ["ask", "allow"]
        page = await here.look("/agents/support?version=1&against=2")
        assert "must not run twice" in page
        assert "cents &gt; 5000" in page
        await here.look("/agents/nobody", 404)
        await here.look("/agents/support?version=9", 404)


# --- the playground and views -----------------------------------------------------------------------------------------


async def test_a_trial_with_another_model_is_what_no_name_stands_for(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.waiting(SUPPORT, "hello", is_over)
        assert "other" in await here.look("/playground?agent=support")
        fields = {"agent": "support", "version": "1", "model": "other", "text": "tell me"}
        there = await here.act("/playground", 204, **fields)
        session = there.rpartition("/")[2]
        s = await state_of(here.rt.caller, session)
        while not is_over(s):
            s = await state_of(here.rt.caller, session)
            await here.rt.caller.clock.sleep(0.01)
        spec = await here.rt.database.specs.get(s.version)
        assert (spec.model, s.user, s.metadata) == ("other", "ada", {"playground": "yes"})
        page = await here.look(there)
        assert "You said tell me" in page
        assert f"/sessions/{session}" in page
        assert "model" in await here.look(f"{there}/steps")
        known = await versions.versions_of(here.rt.caller, "support")
        assert [versions.is_trial(one) for one in known] == [False, True]
        assert versions.newest(known).spec.model == "test"
        assert (await here.twin("/playground.json?agent=support"))["versions"][0]["number"] == 1
        await here.act("/playground", 404, **{**fields, "model": "nobody:x"})
        await here.act("/playground", 404, **{**fields, "version": "7"})


async def test_views_are_kept_for_everybody(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        said = await here.act("/views", name="Late ones", query="status=waiting&agent=support&after=5%3Ax&user=")
        assert "Late ones" in said
        (view,) = (await here.twin("/views.json"))["views"]
        assert (view["query"], view["by"]) == ("agent=support&status=waiting", "ada")
        async with here.somebody("carol", "api") as other:
            page = await other.look("/views?query=status%3Dwaiting%26agent%3Dsupport")
            assert 'aria-current="page"' in page
            await other.act(f"/views/{view['id']}/remove", query="", name="Late ones")
        assert (await here.twin("/views.json"))["views"] == []
        await here.act(f"/views/{view['id']}/remove", 404)
        await here.act("/views", 400, name="All", query="after=5%3Ax")
        await here.act("/views", 400, name="", query="agent=support")
