"""Sessions over the Agents API through budgets, restarts, kills and long lives."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from agents_client import LOOK, NONE, Client, decision, follow, message, opened, result, said_in, send
from wire_server import KEY, WireServer, serve

from remanence import Agent, tool
from remanence.commands import keys as key_verbs
from remanence.commands import sessions
from remanence.content import Image, Text
from remanence.errors import EffectInDoubt
from remanence.models.prices import Prices
from remanence.testing.scripted import Script, Scripted, call, calls, dialogue, says
from remanence.tools import ask_human

LOOKS = Script((dialogue("^look", calls(call("look", at="$user")), says("$result.")), dialogue("", says("So: $user."))))


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_a_session_stops_at_its_limit_and_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    """Cents of the client are the budget of the session: reserved before each call, never overshot."""
    model = Scripted(LOOKS, prices=Prices(input=2_000_000, output=2_000_000))
    server = WireServer(str(tmp_path / "a.db"), {"scripted": model})
    try:
        with server.client() as client:
            served = client.beta.agents.sessions
            session = opened(client, "hi", spend_control={"limit": 1})
            paused = follow(client, session.id, "budget_reached")[-1].session
            assert (paused.status, paused.spend_control.limit, paused.spend_control.consumed) == (
                "budget_reached",
                1,
                0,
            )
            assert served.turns.list(session.id).data[0].status == "waiting"
            assert served.update(session.id, spend_control={"limit": 500}).spend_control.limit == 500
            follow(client, session.id, "idle")
            assert said_in(client, session.id) == ["So: hi."]
            lifted = served.update(session.id, spend_control=None)
            assert (lifted.spend_control.limit, lifted.usage.total_tokens > 0) == (None, True)
            send(client, session.id, message("more"))
            follow(client, session.id, "idle", after=follow(client, session.id, "idle")[-1].event_id)
    finally:
        server.stop()


# --- environments -----------------------------------------------------------------------------------------------------


def test_environments_are_shown_as_they_stand(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", LOOKS) as server, server.client() as client:
        create: Any = client.beta.agents.sessions.create
        own = create(environment={"type": "self_hosted", "workspace_directory": "/work"}, agent={"model": "scripted"})
        assert (own.status, own.environment.workspace_directory, own.environment.id[:4]) == ("idle", "/work", "env_")
        states = [event for event in follow(client, own.id, "environment.disconnected") if "environment" in event.type]
        assert (states[0].environment.status, states[0].environment.error) == ("disconnected", None)
        hosted: Any = {"type": "openai_hosted", "packages": {"python": ["msgspec"]}, "container_size": "small"}
        hosted["network"] = {
            "access": "restricted",
            "allowed_domains": ["a.example"],
            "blocked_domains": ["b.a.example"],
        }
        session = create(environment=hosted, agent={"model": "scripted"}, input="hi")
        assert (session.environment.packages.python, session.environment.container_size) == (["msgspec"], "small")
        assert session.environment.network.to_dict() == hosted["network"]
        failed = [event for event in follow(client, session.id, "idle") if event.type.endswith("environment.failed")]
        assert failed[0].environment.error.code == "not_available"
        assert said_in(client, session.id) == ["So: hi."]


# --- contents ---------------------------------------------------------------------------------------------------------


def test_pictures_reach_the_model_and_are_shown_again(tmp_path: Path) -> None:
    model = Scripted(LOOKS)
    dot, far = "data:image/png;base64,iVBORw0KGgo=", "https://pictures.example/cat.png"
    server = WireServer(str(tmp_path / "a.db"), {"scripted": model})
    try:
        with server.client() as client:
            contents: Any = [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": dot},
                {"type": "input_image", "image_url": far},
            ]
            session = opened(client, [{"role": "user", "content": contents}])
            follow(client, session.id, "idle")
            item = client.beta.agents.sessions.items.list(session.id, order="asc").data[0]
            assert [content.model_dump() for content in item.content] == contents
    finally:
        server.stop()
    parts = model.requests[-1].messages[0].parts
    assert parts == (Text("see"), Image("image/png", data="iVBORw0KGgo="), Image("", url=far))


# --- long lives -------------------------------------------------------------------------------------------------------


def test_pages_of_a_long_session(tmp_path: Path) -> None:
    """Every item and turn once, in both directions, whatever the size of a page; found from the middle as well."""
    with serve(tmp_path / "a.db", LOOKS) as server, server.client() as client:
        session = opened(client, "1")
        served = client.beta.agents.sessions
        for number in range(2, 41):
            send(client, session.id, message(str(number)))
        place = "0.0"
        for _ in range(40):
            place = follow(client, session.id, "turn.completed", after=place)[-1].event_id
        for limit in (7, 100):
            for order in ("asc", "desc"):
                turns = [turn.id for turn in served.turns.list(session.id, order=order, limit=limit)]
                numbers = [int(turn.rpartition("_")[2]) for turn in turns]
                assert numbers == (list(range(1, 41)) if order == "asc" else list(range(40, 0, -1)))
                items = list(served.items.list(session.id, order=order, limit=limit))
                said = [item.content[0].text for item in items]
                expected = [text for number in range(1, 41) for text in (str(number), f"So: {number}.")]
                assert said == (expected if order == "asc" else expected[::-1])
        middle = served.turns.list(session.id, order="asc", limit=1, after=turns[19]).data[0]
        assert served.turns.retrieve(middle.id, session_id=session.id) == middle
        own = served.turns.items.list(middle.id, session_id=session.id, order="asc", limit=1)
        assert len(list(own)) == 2
        assert len(served.traces.list(session.id, limit=3).data) == 3
        for bad in ("turn_x_1", f"{middle.id}9", "msg_1", ""):
            with pytest.raises(openai.BadRequestError):
                served.items.list(session.id, after=bad or "x")


def test_a_stream_goes_on_over_a_restart(tmp_path: Path) -> None:
    """The connection ends in order with the server; the id of its last event is a place on the next one."""
    database = tmp_path / "a.db"
    with serve(database, LOOKS) as server:
        with server.client() as client:
            session = opened(client, "look")
            follow(client, session.id, "requires_action")
        url = f"{server.url}/v1/agents/sessions/{session.id}/events"
        headers = {"authorization": f"Bearer {KEY}", "last-event-id": "0.0"}
        with httpx2.stream("GET", url, headers=headers, timeout=60) as response, ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            text = "".join(response.iter_text())
            stopping.result(60)
        assert "\r" not in text
        frames = [
            dict(line.split(": ", 1) for line in one.split("\n")) for one in text.strip().split("\n\n") if one[0] != ":"
        ]
        assert frames[-1]["event"] == "agent.session.requires_action"
    with serve(database, LOOKS) as server, server.client() as client:
        waiting = client.beta.agents.sessions.retrieve(session.id)
        send(client, session.id, result(waiting.required_actions[0]))
        rest = follow(client, session.id, "idle", after=frames[-1]["id"])
        whole = follow(client, session.id, "idle")
    # A reply may have been heard in pieces or whole; all that is done is done in the same order, each once.
    read = [*(one["event"] for one in frames), *(event.type for event in rest)]
    heard = [kind for kind in read if not kind.endswith((".added", ".delta"))]
    assert heard == [event.type for event in whole if not event.type.endswith((".added", ".delta"))]


def test_nothing_is_lost_when_servers_are_killed(tmp_path: Path) -> None:
    """Eight clients talk while the server is killed again and again: every turn happens, once."""
    database, turns = tmp_path / "a.db", 4
    server = WireServer(str(database), {"scripted": Scripted(LOOKS)})
    servers = [server]
    seen: dict[str, list[str]] = {}
    begun: list[int] = []

    def talk(number: int) -> None:
        do = partial(steadily, servers)
        create: Any = {"environment": NONE, "agent": {"model": "scripted", "tools": [LOOK]}}
        create["extra_headers"] = {"Idempotency-Key": f"talker-{number}"}
        session = do(lambda c: c.beta.agents.sessions.create(**create)).id
        for turn in range(turns):
            begun.append(number)
            do(partial(said_once, session, message(f"look {number}.{turn}"), f"say {turn}"))
            action = do(lambda c: wait_for(c, session, "requires_action")).required_actions[0]
            do(partial(said_once, session, result(action, f"saw {action.arguments['at']}"), f"saw {turn}"))
            do(lambda c: wait_for(c, session, "idle"))
        seen[session] = do(lambda c: said_in(c, session))

    struck = 0
    try:
        with ThreadPoolExecutor(8) as pool:
            talking = [pool.submit(talk, number) for number in range(8)]
            for strike in range(3):
                while len(begun) < 6 + 8 * strike and not all(one.done() for one in talking):
                    wait(talking, 0.02)
                struck += sum(not one.done() for one in talking)
                servers[-1].kill()
                servers.append(WireServer(str(database), {"scripted": Scripted(LOOKS)}))
            for one in talking:
                one.result(100)
    finally:
        servers[-1].stop()
    assert struck >= 8, "the kills came too late to matter"
    assert sorted(said[0] for said in seen.values()) == [f"saw look {number}.0." for number in range(8)]
    for said in seen.values():
        number = said[0].removeprefix("saw look ").partition(".")[0]
        assert said == [f"saw look {number}.{turn}." for turn in range(turns)]


def said_once(session: str, event: Any, key: str, client: Client) -> None:
    """Put something into the session, under a key."""
    send(client, session, event, idempotency_key=key)


def steadily(servers: list[WireServer], action: Any) -> Any:
    """Do something, again while servers die under it."""
    end = time.monotonic() + 120
    while True:
        try:
            with servers[-1].client(timeout=60) as client:
                return action(client)
        except (openai.APIConnectionError, openai.InternalServerError, httpx2.TransportError, StopIteration):
            if time.monotonic() > end:
                raise


def wait_for(client: Client, session: str, status: str) -> Any:
    """The session once it stands like this. StopIteration when the stream ends before."""
    found = client.beta.agents.sessions.retrieve(session)
    if found.status != status:
        with client.beta.agents.sessions.events.stream(session) as events:
            return next(event.session for event in events if event.type == f"agent.session.{status}")
    return found


# --- what people settle -----------------------------------------------------------------------------------------------


@tool(replay="never")
async def pay(cents: int) -> str:
    """Pay somebody."""
    raise EffectInDoubt("the line broke after the order left")


def test_an_effect_in_doubt_can_be_given_up_and_never_approved(tmp_path: Path) -> None:
    script = Script((dialogue("", calls(call("pay", cents=5)), says("$result")),))
    payer = Agent("payer", model="scripted", tools=[pay])
    with serve(tmp_path / "a.db", script, [payer]) as server, server.client() as client:
        session = opened(client, "pay", agent_id="payer")
        action = follow(client, session.id, "requires_action")[-1].session.required_actions[0]
        assert (action.request_id, action.request.name) == ("doubt_call_1_1_1", "pay")
        assert "Nobody knows whether pay happened" in action.request.message
        with pytest.raises(openai.BadRequestError, match="cannot be approved"):
            send(client, session.id, decision(action, "approve"))
        send(client, session.id, decision(action, "deny"))
        done = follow(client, session.id, "idle")
        assert "given up" in said_in(client, session.id)[0]
        assert done[-1].session.required_actions == []


def test_a_turn_runs_beside_the_doubt_of_a_cancelled_one(tmp_path: Path) -> None:
    """What nobody knows of an earlier turn stays to be settled; the status follows the turn that is open."""
    asks = dialogue("", calls(call("ask_human", question="How much?")))
    script = Script((dialogue("pay", calls(call("pay", cents=5)), says("$result")), asks))
    payer = Agent("payer", model="scripted", tools=[pay, ask_human])
    with serve(tmp_path / "a.db", script, [payer]) as server, server.client() as client:
        session = opened(client, "pay", agent_id="payer")
        last = follow(client, session.id, "requires_action")[-1].event_id
        send(client, session.id, {"type": "agent.session.input.cancel"})
        last = follow(client, session.id, "requires_action", after=last)[-1].event_id
        send(client, session.id, message("and now?"))
        running = follow(client, session.id, "requires_action", after=last)
        told = [event.type.removeprefix("agent.session.") for event in running]
        assert [one for one in told if not one.startswith("turn.")] == ["in_progress", "requires_action"]
        asked, doubt = running[-1].session.required_actions
        assert (asked.type, asked.name, doubt.request_id) == ("function_call", "ask_human", "doubt_call_1_1_1")
        send(client, session.id, {"type": "agent.session.input.cancel"})
        rested = follow(client, session.id, "requires_action", after=running[-1].event_id)[-1]
        assert [action.request_id for action in rested.session.required_actions] == ["doubt_call_1_1_1"]
        send(client, session.id, decision(doubt, "deny"))
        assert follow(client, session.id, "idle", after=rested.event_id)[-1].session.required_actions == []


def test_a_frozen_session_waits_for_somebody(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", LOOKS) as server, server.client() as client:
        session = opened(client, "hi")
        last = follow(client, session.id, "idle")[-1].event_id
        server.do(lambda rt: sessions.freeze(rt.caller, session.id))
        assert client.beta.agents.sessions.retrieve(session.id).status == "idle"
        send(client, session.id, message("more"))
        waiting = client.beta.agents.sessions.retrieve(session.id)
        assert (waiting.status, waiting.required_actions) == ("requires_action", [])
        server.do(lambda rt: sessions.thaw(rt.caller, session.id))
        assert follow(client, session.id, "idle", after=last)[-1].session.status == "idle"


# --- ends of streams --------------------------------------------------------------------------------------------------


def test_a_stream_ends_with_its_session(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", LOOKS) as server, server.client() as client:
        session = opened(client, "look")
        with client.beta.agents.sessions.events.stream(session.id) as events:
            next(iter(events))
            with server.client() as other:
                other.beta.agents.sessions.delete(session.id)
            read = list(events)
        last = ["agent.session.turn.cancelled", "agent.session.idle", "error"]
        assert [event.type for event in read[-3:]] == last, "also while it waits for its client"
        with pytest.raises(openai.NotFoundError):
            send(client, session.id, message("still there?"))
        assert session.id not in [one.id for one in client.beta.agents.sessions.list()]


def test_pieces_are_padded_unless_that_is_not_wanted(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", LOOKS) as server, server.client() as client:
        stream = client.beta.agents.sessions.events.stream
        session = opened(client, "hi")
        place = {"starting_after": "0.0"}
        for wanted in (True, False):
            with stream(session.id, include_obfuscation=wanted, extra_query=place) as events:
                piece = next(event for event in events if event.type.endswith("output_text.delta"))
            assert (len(piece.delta + (piece.obfuscation or "")) % 32 == 0) == wanted


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_as_they_are_made_used_and_revoked(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db", LOOKS) as server:
        made, text = server.do(lambda rt: key_verbs.create_key(rt.caller, "ada", scopes=["api"], expires_s=3_600))
        _, short = server.do(lambda rt: key_verbs.create_key(rt.caller, "late", expires_s=0.000001))
        with server.client(text) as client:
            session = opened(client, "hi")
            follow(client, session.id, "idle")
        (row, _) = server.do(lambda rt: key_verbs.list_keys(rt.caller))
        assert (row.name, row.last_used_at is not None, text.startswith(row.prefix)) == ("ada", True, True)
        records = server.do(lambda rt: rt.database.store.read(session.id, limit=2))
        assert {record.actor for record in records} == {"key:ada"}
        for bad in (short, f"{text}x", text.replace(made.id, "nobody")):
            with server.client(bad) as client, pytest.raises(openai.AuthenticationError):
                client.beta.agents.list()
        server.do(lambda rt: key_verbs.revoke_key(rt.caller, text))
        ended = asyncio.run(refused_within(server, text, 60))
        assert ended
        secret = text.partition(f"{made.id}_")[2]  # it may have underscores itself
        assert len(secret) > 40
        assert secret.encode() not in (tmp_path / "a.db").read_bytes()


async def refused_within(server: WireServer, key: str, seconds: int) -> bool:
    """Whether the key stops working within so many seconds."""
    async with asyncio.timeout(seconds), httpx2.AsyncClient() as client:
        while True:
            answer = await client.get(f"{server.url}/v1/agents", headers={"authorization": f"Bearer {key}"})
            if answer.status_code == 401:
                return True
            await asyncio.sleep(0.25)
