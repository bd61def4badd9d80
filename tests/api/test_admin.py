"""The native faces under /admin/v1: people, money, freezes, journals that move, and figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from chat_server import KEY, OTHER, READER, serving

from remanence import Agent, Remanence, tool
from remanence.api.admin.face import admin_router
from remanence.commands.sessions import Opening
from remanence.commands.versions import TRIAL
from remanence.core.builtins import ASK_HUMAN
from remanence.models.scripted import Scripted
from remanence.spec import AgentSpec
from remanence.testing.scripted import Script, call, calls, dialogue, says

RAN: list[int] = []


@tool(replay="never", approval="cents > 10")
def refund(cents: int) -> str:
    """Refund money."""
    RAN.append(cents)
    return "refunded"


def script() -> Scripted:
    return Scripted(
        Script(
            dialogues=(
                dialogue("money", calls(call("refund", cents=99)), says("done: $result")),
                dialogue("ask", calls(call("ask_human", question="Why?")), says("because $result")),
                dialogue("", says("You said: $user")),
            )
        )
    )


class Admin:
    """A server, and somebody who may do everything in one project."""

    def __init__(self, http: httpx2.AsyncClient, rt: Remanence) -> None:
        self.http = http
        self.rt = rt

    async def ask(self, method: str, path: str, expected: int = 200, **options: Any) -> Any:
        key = options.pop("key", KEY)
        headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
        answer = await self.http.request(method, f"/admin/v1{path}", headers=headers, **options)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer

    async def until(self, session: str, status: str) -> Any:
        async with asyncio.timeout(60):
            while (found := await self.ask("GET", f"/sessions/{session}"))["status"] != status:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def administering(tmp_path: Path) -> AsyncIterator[Admin]:
    support = Agent("support", model="test", tools=[refund, ASK_HUMAN])
    async with (
        Remanence(f"sqlite:///{tmp_path}/a.db", models={"test": script()}, agents=[support]) as rt,
        serving(rt, [("", admin_router)]) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        yield Admin(http, rt)


async def test_a_session_from_its_first_word_to_its_export(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support", user="ada", title="First")).id
        key = {"idempotency-key": "one"}
        sent = await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"}, headers=key)
        again = await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"}, headers=key)
        assert (again["position"], again["replayed"]) == (sent["position"], True)
        await admin.ask("POST", f"/sessions/{session}/send", 409, json={"text": "other"}, headers=key)
        found = await admin.until(session, "idle")
        assert (found["agent"], found["user"], found["turns"], found["model_calls"]) == ("support", "ada", 1, 1)

        listed = await admin.ask("GET", "/sessions", params={"agent": "support", "user": "ada"})
        assert [row["session"] for row in listed["data"]] == [session]
        assert (await admin.ask("GET", "/sessions", params={"user": "bob"}))["data"] == []

        first = await admin.ask("GET", f"/sessions/{session}/records", params={"limit": 2})
        rest = await admin.ask("GET", f"/sessions/{session}/records", params={"after": first["next"]})
        kinds = [record["kind"] for record in first["data"] + rest["data"]]
        assert kinds == ["SessionOpened", "InputReceived", "TurnStarted", "ModelCalled", "ModelReplied", "TurnEnded"]
        assert rest["next"] is None

        prompt = await admin.ask("GET", f"/sessions/{session}/prompts/model_1_1")
        assert (prompt["exact"], prompt["compaction"], prompt["position"]) == (True, False, 4)
        assert [message["role"] for message in prompt["messages"]] == ["user"]
        await admin.ask("GET", f"/sessions/{session}/prompts/model_7_1", 404)

        forked = await admin.ask("POST", f"/sessions/{session}/fork", 201, json={"turn": 1})
        assert (forked["turns"], forked["session"] != session) == (1, True)
        assert (await admin.ask("GET", f"/sessions/{session}/verify"))["faults"] == 0
        mended = await admin.ask("POST", f"/sessions/{session}/mend?inherited=false")
        assert (mended["faults"], mended["wrong_snapshots"], mended["dropped"]) == (0, [], False)
        await admin.ask("POST", f"/sessions/{session}/cancel", 409, json={})

        bundle = (await admin.ask("GET", f"/sessions/{session}/export")).content
        await admin.ask("POST", "/sessions/import", 409, content=bundle)
        laid = await admin.ask("POST", "/sessions/import?as_session=copy", 201, content=bundle)
        assert (laid["source"], laid["records"]) == (session, 6)
        assert (await admin.ask("GET", "/sessions/copy"))["turns"] == 1
        await admin.ask("POST", "/sessions/import?as_session=x", 400, content=b"PK no")


async def test_lists_of_sessions_go_on(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        opened = {(await admin.rt.open("support")).id for _ in range(5)}
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = await admin.ask("GET", "/sessions", params=params)
            seen += [row["session"] for row in page["data"]]
            if page["next"] is None:
                break
            params["after"] = page["next"]
        assert (set(seen), len(seen)) == (opened, 5)
        await admin.ask("GET", "/sessions", 400, params={"after": "nonsense"})


async def test_a_filter_that_means_nothing_is_refused(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        refused = await admin.ask("GET", "/sessions", 400, params={"status": "weird"})
        assert "status" in refused["error"]["message"]
        await admin.ask("GET", "/sessions", 400, params={"waiting_on": "godot"})
        await admin.ask("GET", "/sessions", params={"status": "waiting", "waiting_on": "approval"})


async def test_sessions_are_found_by_what_they_are_and_what_was_said(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        names: list[str] = []
        for number in range(3):
            opening = Opening(title=f"number {number}", metadata={"tier": "gold" if number else "tin"})
            names.append((await admin.rt.open("support", opening=opening)).id)
            await admin.ask(
                "POST", f"/sessions/{names[-1]}/send", 202, json={"text": f"My Café order is late {number}"}
            )
            await admin.until(names[-1], "idle")

        async def found(**params: Any) -> list[str]:
            return [row["session"] for row in (await admin.ask("GET", "/sessions", params=params))["data"]]

        (row,) = (await admin.ask("GET", "/sessions", params={"q": "cafe late 1 "}))["data"]
        assert (row["session"], row["found_at"]) == (names[1], 5), "the newest record, in which the model repeats it"
        assert [piece["text"] for piece in row["excerpt"] if piece["fits"]] == ["Café", "late", "1"]
        first = await admin.ask("GET", "/sessions", params={"q": "late", "limit": 2})
        rest = await admin.ask("GET", "/sessions", params={"q": "late", "limit": 2, "after": first["next"]})
        assert [row["session"] for row in first["data"] + rest["data"]] == names[::-1]
        assert rest["next"] is None
        assert await found(q="late", tag="tier=tin") == [names[0]]
        assert sorted(await found(tag="tier=gold")) == sorted(names[1:])
        assert await found(doubt="true") == await found(since=2**61) == await found(usd_micros_min=1) == []
        assert len(await found(sort="turns", usd_micros_max=0, version=row["version"])) == 3
        await admin.ask("GET", "/sessions", 400, params={"tag": "tin"})
        await admin.ask("GET", "/sessions", 400, params={"sort": "colour"})


async def test_people_answer(tmp_path: Path) -> None:
    RAN.clear()
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support")).id
        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "money"})
        await admin.until(session, "waiting")
        (waiting,) = (await admin.ask("GET", "/approvals"))["data"]
        assert (waiting["tool"], waiting["arguments"], RAN) == ("refund", '{"cents":99}', [])
        path = f"/approvals/{session}/{waiting['call']}"
        settled = await admin.ask("POST", path, json={"decision": "approve", "note": "fine"})
        assert settled["by"] == "key:development"
        await admin.until(session, "idle")
        assert RAN == [99]
        await admin.ask("POST", path, 404, json={"decision": "deny"})
        await admin.ask("POST", path, 400, json={"decision": "perhaps"})

        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "ask"})
        await admin.until(session, "waiting")
        (question,) = (await admin.ask("GET", "/approvals", params={"session": session}))["data"]
        assert question["kind"] == "answer"
        await admin.ask("POST", f"/questions/{session}/{question['call']}", json={"text": "it rained"})
        await admin.until(session, "idle")
        assert (await admin.ask("GET", "/doubts"))["data"] == []
        await admin.ask("POST", f"/doubts/{session}/call_9_9_9", 404, json={"outcome": "give_up"})


async def test_freezes(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support")).id
        frozen = await admin.ask("POST", f"/sessions/{session}/freeze", json={"reason": "look"})
        assert frozen["status"] == "frozen"
        await admin.ask("POST", f"/sessions/{session}/freeze", 409, json={})
        await admin.ask("POST", f"/sessions/{session}/thaw", json={})
        for scope in ("all", "project:default", "agent:support"):
            made = await admin.ask("POST", "/freezes", 201, json={"scope": scope, "reason": "drill"})
            assert (made["scope"], made["by"]) == (scope, "key:development")
        assert len((await admin.ask("GET", "/freezes"))["data"]) == 3
        for scope in ("all", "project:default", "agent:support"):
            await admin.ask("DELETE", f"/freezes/{scope}")
        await admin.ask("DELETE", "/freezes/all", 404)
        await admin.ask("POST", "/freezes", 404, json={"scope": "project:other"})
        await admin.ask("POST", "/freezes", 400, json={"scope": "everything"})


async def test_money_and_figures(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support", user="ada")).id
        body = {"scope": f"session:{session}", "unit": "tokens", "limit": 0}
        await admin.ask("PUT", "/budgets", json=body)
        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"})
        await admin.until(session, "budget_reached")
        raised = await admin.ask(
            "PUT", "/budgets", json={"scope": f"session:{session}", "unit": "tokens", "raise_by": 50_000}
        )
        assert raised["limit"] == 50_000
        await admin.until(session, "idle")
        (budget,) = (await admin.ask("GET", "/budgets"))["data"]
        assert (budget["spent"] > 0, budget["reserved"]) == (True, 0)
        await admin.ask("PUT", "/budgets", 400, json={**body, "raise_by": 1})
        await admin.ask("PUT", "/budgets", 404, json={**body, "scope": "project:other"})

        (row,) = (await admin.ask("GET", "/usage", params={"by": "model,user"}))["data"]
        assert (row["key"], row["calls"]) == ({"model": "test", "user": "ada"}, 1)
        await admin.ask("GET", "/usage", 400, params={"by": "weather"})

        text = (await admin.ask("GET", "/metrics")).text
        assert 'remanence_sessions{status="idle"} 1\n' in text
        assert 'remanence_model_calls_total{model="test"} 1\n' in text
        assert 'remanence_process_turns_total{status="completed"} 1\n' in text
        for line in text.splitlines():
            assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2
        assert (
            text.count("# TYPE")
            == text.count("# HELP")
            == len({x for x in text.split() if x.startswith("rem") and "{" not in x})
        )
        health = await admin.ask("GET", "/health")
        assert health["ready"] is True
        assert health["database"]["sessions"] == {"idle": 1}


async def test_versions(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        specs = admin.rt.database.specs
        for number, words in enumerate(("Be kind.", "Be brief."), 1):
            await specs.put(AgentSpec("writer", "test", words), project="default", at=number)
        (newest,) = (await admin.ask("GET", "/agents"))["data"]
        assert (newest["agent"], newest["number"]) == ("writer", 2)
        assert [v["number"] for v in (await admin.ask("GET", "/agents/writer/versions"))["data"]] == [1, 2]
        diff = await admin.ask("GET", "/agents/writer/diff")
        assert (diff["a"], diff["b"], diff["same"]) == ("writer@1", "writer@2", False)
        assert "-instructions: Be kind." in diff["diff"]
        same = await admin.ask("GET", "/agents/writer/diff", params={"a": newest["version"][:12], "b": "2"})
        assert same["same"] is True
        await admin.ask("GET", "/agents/writer/diff", 404, params={"a": "7"})
        await admin.ask("GET", "/agents/nobody/versions", 404)


async def test_what_sessions_changed_for_themselves_is_no_version_of_the_line(tmp_path: Path) -> None:
    """It is compared when it is named, with the version before it; by itself a diff is of what was registered."""
    async with administering(tmp_path) as admin:
        specs, own = admin.rt.database.specs, {"agent": {}}
        trial = AgentSpec("writer", "other", "Be kind.", metadata={TRIAL: "1"})
        made = (
            AgentSpec("writer", "test", "Be kind.", face={**own, "revision": 1}),
            AgentSpec("writer", "test", "Shout.", face=own),
            AgentSpec("writer", "test", "Be brief.", face={**own, "revision": 2}),
            trial,
            AgentSpec("writer", "test", "Whisper.", face=own),
        )
        for number, spec in enumerate(made[:2], 1):
            await specs.put(spec, project="default", at=number)
        error = (await admin.ask("GET", "/agents/writer/diff", 400))["error"]
        assert "no version before 1" in error["message"]
        for number, spec in enumerate(made[2:], 3):
            await specs.put(spec, project="default", at=number)
        for b, between in (({}, (1, 3)), ({"b": "5"}, (3, 5)), ({"b": "2"}, (1, 2)), ({"b": "4"}, (3, 4))):
            diff = await admin.ask("GET", "/agents/writer/diff", params=b)
            assert (diff["a"], diff["b"]) == tuple(f"writer@{number}" for number in between)


async def test_other_projects_and_smaller_keys(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support")).id
        paths = [
            ("GET", f"/sessions/{session}", None),
            ("GET", f"/sessions/{session}/records", None),
            ("GET", f"/sessions/{session}/export", None),
            ("GET", f"/sessions/{session}/verify", None),
            ("GET", f"/sessions/{session}/prompts/model_1_1", None),
            ("POST", f"/sessions/{session}/mend", None),
            ("POST", f"/sessions/{session}/send", {"text": "x"}),
            ("POST", f"/sessions/{session}/cancel", {}),
            ("POST", f"/sessions/{session}/fork", {}),
            ("POST", f"/sessions/{session}/freeze", {}),
            ("POST", f"/sessions/{session}/thaw", {}),
            ("POST", f"/approvals/{session}/call_1", {"decision": "approve"}),
            ("POST", f"/questions/{session}/call_1", {"text": "x"}),
            ("POST", f"/doubts/{session}/call_1", {"outcome": "give_up"}),
            ("GET", f"/approvals?session={session}", None),
            ("GET", f"/doubts?session={session}", None),
            ("PUT", "/budgets", {"scope": f"session:{session}", "unit": "tokens", "limit": 1}),
        ]
        for method, path, body in paths:
            await admin.ask(method, path, 404, json=body, key=OTHER)
            await admin.ask(method, path, 403, json=body, key=READER)
            await admin.ask(method, path, 401, json=body, key="nothing")
        assert (await admin.ask("GET", "/sessions", key=OTHER))["data"] == []
        assert (await admin.ask("GET", "/agents", key=OTHER))["data"] == []


async def test_a_freeze_of_everything_names_no_session_of_another_project(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support")).id
        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"})
        await admin.until(session, "idle")
        made = await admin.ask("POST", "/freezes", 201, json={"scope": "all"}, key=OTHER)
        assert (made["frozen"], made["last_effect_session"], made["last_effect_position"]) == (True, None, None)
        assert session not in str(await admin.ask("GET", "/freezes", key=OTHER))
        await admin.ask("DELETE", "/freezes/all", key=OTHER)
        assert (await admin.ask("POST", "/freezes", 201, json={"scope": "all"}))["last_effect_session"] == session


async def test_a_freeze_of_an_agent_reaches_no_other_project(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        session = (await admin.rt.open("support")).id
        scope = {"scope": "agent:support"}
        # To another project an agent that it has not is no agent, whoever else has one of that name.
        refused = await admin.ask("POST", "/freezes", 404, json=scope, key=OTHER)
        assert "support'" in refused["error"]["message"]
        assert "The agents there are" not in refused["error"]["message"]
        await admin.rt.database.specs.put(Agent("support", model="scripted").spec, project="other", at=1)
        made = await admin.ask("POST", "/freezes", 201, json=scope, key=OTHER)
        assert (made["scope"], made["last_effect_session"]) == ("agent:support", None)
        assert [each["scope"] for each in (await admin.ask("GET", "/freezes", key=OTHER))["data"]] == ["agent:support"]
        assert (await admin.ask("GET", "/freezes"))["data"] == []
        await admin.ask("DELETE", "/freezes/agent:support", 404)
        await admin.ask("POST", "/freezes", 400, json={"scope": "agent@other:support"})
        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"})
        async with asyncio.timeout(60):
            while not (await admin.ask("GET", f"/sessions/{session}"))["turns"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await admin.ask("POST", "/freezes", 201, json=scope)
        assert (await admin.ask("DELETE", "/freezes/agent:support", key=OTHER))["frozen"] is False
        assert len((await admin.ask("GET", "/freezes"))["data"]) == 1


async def test_budgets_of_another_project_are_neither_seen_nor_used(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        theirs = {"scope": "agent:support", "unit": "tokens", "limit": 0}
        made = await admin.ask("PUT", "/budgets", json=theirs, key=OTHER)
        assert (made["scope"], made["limit"]) == ("agent:support", 0)
        assert (await admin.ask("GET", "/budgets"))["data"] == []
        await admin.ask("PUT", "/budgets", 404, json={"scope": "agent:support", "unit": "tokens", "raise_by": 1})
        await admin.ask("PUT", "/budgets", 400, json={**theirs, "scope": "agent@other:support"})

        session = (await admin.rt.open("support")).id
        await admin.ask("POST", f"/sessions/{session}/send", 202, json={"text": "hello"})
        async with asyncio.timeout(60):
            while not (found := await admin.ask("GET", f"/sessions/{session}"))["turns"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert found["status"] in ("idle", "in_progress"), "a limit of nothing in another project holds nothing up"

        await admin.ask("PUT", "/budgets", json={"scope": "agent:support", "unit": "tokens", "raise_by": 5}, key=OTHER)
        (theirs,) = (await admin.ask("GET", "/budgets", params={"scope": "agent:support"}, key=OTHER))["data"]
        assert (theirs["scope"], theirs["limit"], theirs["spent"]) == ("agent:support", 5, 0)


async def test_everything_is_described(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        document = (await admin.http.get("/openapi.json")).json()
        paths = {path: item for path, item in document["paths"].items() if path.startswith("/admin/v1")}
        assert len(paths) >= 20
        for item in paths.values():
            for operation in item.values():
                assert operation["summary"]
                assert operation["description"]
                assert {"400", "401", "403", "404", "409"} <= operation["responses"].keys()
        fields = document["components"]["schemas"]["Session"]["properties"]
        assert {"session", "status", "waiting_on", "doubts"} <= fields.keys()


async def test_nobody_else_may_stand_in(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        for header in ("x-remanence-as", "x-remanence-project"):
            refused = await admin.ask("GET", "/server", 403, headers={header: "eve"})
            assert "Only the command line's own key may speak for somebody else" in refused["error"]["message"]


async def test_a_session_is_opened_once_and_told_whole(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        found = await admin.ask("GET", "/server")
        assert (found["worker"], list(found["agents"])) == (True, ["support"])
        await admin.rt.open("support")  # registers it
        key = {"idempotency-key": "one"}
        body = {"agent": "support", "user": "ada", "title": "First"}
        opened = await admin.ask("POST", "/sessions", 201, json=body, headers=key)
        assert await admin.ask("POST", "/sessions", 201, json=body, headers=key) == opened
        await admin.ask("POST", "/sessions", 409, json={**body, "title": "Second"}, headers=key)
        await admin.ask("POST", "/sessions", 404, json={"agent": "nobody"})
        await admin.ask("POST", "/sessions", 404, json={**body, "version": "0" * 64})
        session = opened["session"]
        assert await admin.ask("GET", f"/sessions/{session}/row") == opened
        await admin.ask("GET", f"/sessions/{session}/row", 404, key=OTHER)
        await admin.ask("GET", f"/sessions/{session}/state", 404, key=OTHER)
        await admin.ask("GET", f"/sessions/{session}/follow", 404, key=OTHER)
        state = await admin.ask("GET", f"/sessions/{session}/state")
        assert (state["state"]["user"], state["lease_until"]) == ("ada", None)


async def test_versions_are_registered_and_keys_made_and_revoked(tmp_path: Path) -> None:
    async with administering(tmp_path) as admin:
        spec = {"name": "clerk", "model": "test"}
        made = await admin.ask("POST", "/versions", 201, json={"spec": spec})
        again = await admin.ask("POST", "/versions", 201, json={"spec": spec})
        assert (made["created"], again["created"], again["version"]) == (True, False, made["version"])
        wrong = await admin.ask("POST", "/versions", 400, json={"spec": {"name": "clerk"}})
        assert wrong["error"]["code"] == "invalid_spec"
        one = await admin.ask("GET", f"/versions/{made['version']}")
        assert (one["agent"], one["spec"]["model"]) == ("clerk", "test")
        await admin.ask("GET", f"/versions/{made['version']}", 404, key=OTHER)

        key = await admin.ask("POST", "/keys", 201, json={"name": "bob", "scopes": ["admin"]})
        assert (await admin.ask("GET", "/server", key=key["text"]))["project"] == "default"
        assert [one["name"] for one in (await admin.ask("GET", "/keys"))["data"]] == ["bob"]
        assert key["text"] not in str(await admin.ask("GET", "/keys"))
        await admin.ask("POST", "/keys", 400, json={"name": "bob"}, headers={"idempotency-key": "k"})
        await admin.ask("DELETE", f"/keys/{key['key']['id']}")
        await admin.ask("GET", "/server", 401, key=key["text"])
        await admin.ask("POST", "/freezes", 404, json={"scope": "agent:nobody"})
