"""The order of the events of a session of the Agents API, and going on after every single one of them.

For every kind of turn: who listened live and who comes when all is over have the same, by the rules that clients build
on. Whoever goes on after any event gets what follows it, and nothing else. Every event fits the package's own model.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
from agents_client import LOOK, decision, message, opened, result, send
from openai.types.beta import AgentSessionEvent
from priced_things import price, refund
from pydantic import TypeAdapter
from typist import Frame, settled_of
from wire_server import KEY, WireServer

from remanence import Agent, Remanence
from remanence.commands import forks
from remanence.content import Part, Text, Thinking, ToolCall, ToolResult, Usage, text_of
from remanence.errors import ModelError
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.tools import ask_human

strict: TypeAdapter[Any] = TypeAdapter(AgentSessionEvent)
TURN = "agent.session.turn."
ENDS = tuple(TURN + word for word in ("completed", "failed", "cancelled"))
IDLE, ASKS = "agent.session.idle", "agent.session.requires_action"
PIECE_S = 0.025
"""What the model takes for a piece: longer than pieces are gathered for."""
Event = tuple[str, Any]
"""Its id, and its data."""


class Actor:
    """Does what it is told, piece by piece; `break` breaks off once in mid-sentence, `stall` says no more than half."""

    def __init__(self) -> None:
        self.broke = False

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        last = request.messages[-1]
        words = text_of(last.parts)
        if last.role == "tool":
            told = [text_of(part.parts) for part in last.parts if isinstance(part, ToolResult)]
            return await self._said(on_delta, Thinking("hm"), Text(f"It came to this: {told}"))
        if words == "break" and not self.broke:
            self.broke = True
            await self._said(on_delta, Thinking("let me see"), Text("It is ab"))
            raise ModelError("cut", kind="connection")
        if words == "fail":
            await self._said(on_delta, Text("I can"))
            raise ModelError("it does not go", kind="invalid_request")
        if words == "stall":
            await self._said(on_delta, Thinking("well"), Text("This goes on and"))
            await asyncio.Event().wait()
        if words.startswith("call "):
            made = [ToolCall(f"x{n}", *one.split("=")) for n, one in enumerate(words[5:].split("; "))]
            return await self._said(on_delta, Thinking("which one"), Text("I will."), *made, stop="tool_calls")
        return await self._said(on_delta, Thinking("a\nb"), Text(f"You said: {words}"))

    async def _said(self, on_delta: OnDelta | None, *parts: Part, stop: Any = "stop") -> ModelReply:
        for index, part in enumerate(parts if on_delta else ()):
            if isinstance(part, Text | Thinking):
                assert on_delta is not None
                for start in range(0, len(part.text), 6):
                    on_delta(index, "text" if isinstance(part, Text) else "thinking", part.text[start : start + 6])
                    await asyncio.sleep(PIECE_S)
        return ModelReply(parts, Usage(3, 2), stop=stop)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return usage.total_tokens * 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    desk = Agent("desk", model="m", tools=[price, refund, ask_human])
    running = WireServer(str(tmp_path_factory.mktemp("order") / "a.db"), {"m": Actor()}, [desk])
    yield running
    running.stop()


# --- reading ----------------------------------------------------------------------------------------------------------


class Listener:
    """Reads a session's events over HTTP, on a thread of its own, until as many rests came as it waits for."""

    def __init__(self, server: WireServer, session: str, after: str = "0.0", *, how: str = "last-event-id") -> None:
        self.events: list[Event] = []
        self._url = f"{server.url}/v1/agents/sessions/{session}/events"
        self._query = {"include_obfuscation": "false"} | ({} if how == "last-event-id" else {how: after})
        self._headers = {"authorization": f"Bearer {KEY}"} | ({how: after} if how == "last-event-id" else {})
        self._news = threading.Condition()
        self._enough: Callable[[Sequence[Event]], bool] = lambda _: False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with (
            httpx2.Client(timeout=60) as http,
            http.stream("GET", self._url, params=self._query, headers=self._headers) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            lines: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name:
                    lines[name] = value
                elif "data" in lines:
                    event, lines = (lines["id"], msgspec.json.decode(lines["data"])), {}
                    with self._news:
                        self.events.append(event)
                        self._news.notify_all()
                        if self._enough(self.events):
                            return

    def until(self, enough: Callable[[Sequence[Event]], bool]) -> list[Event]:
        """Wait until what was read is enough."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.events), 60), kinds_of(self.events)
            return list(self.events)

    def end(self, enough: Callable[[Sequence[Event]], bool]) -> list[Event]:
        """The same, and read no more."""
        self._enough = enough
        return self.until(enough)


def rests(count: int) -> Callable[[Sequence[Event]], bool]:
    return lambda events: sum(data["type"] == IDLE for _, data in events) >= count


def at(last: str) -> Callable[[Sequence[Event]], bool]:
    return lambda events: bool(events) and events[-1][0] == last


def kinds_of(events: Sequence[Event]) -> list[str]:
    return [data["type"].removeprefix("agent.session.") for _, data in events]


# --- the rules --------------------------------------------------------------------------------------------------------


def check(events: Sequence[Event]) -> None:
    """Hold a whole stream to the rules."""
    for name, data in events:
        strict.validate_python(data, strict=True)
        assert data["event_id"].removeprefix("evt_") == name.removeprefix("evt_")
    names = [name for name, _ in events]
    assert len(names) == len(set(names)), "two events have one id"
    told = [data for _, data in events]
    assert told[0]["type"] == "agent.session.created"
    assert told[-1]["type"] == IDLE
    turns = [data["turn_id"] for data in told if data["type"] == f"{TURN}created"]
    assert len(turns) == len(set(turns))
    for turn in turns:
        _check_turn([data for data in told if data.get("turn_id") == turn and data["type"].startswith(TURN)])
    within = False
    for data in told:
        kind = data["type"]
        if kind == f"{TURN}created":
            assert not within, "a turn began in another"
            within = True
        elif kind in ENDS:
            within = False
        elif kind == IDLE:
            assert not within, "a session rests while its turn runs"
        elif kind.startswith(f"{TURN}item"):
            assert within, "an item outside a turn"


def _check_turn(mine: Sequence[Any]) -> None:
    kinds = [data["type"] for data in mine]
    assert kinds[:2] == [f"{TURN}created", f"{TURN}in_progress"]
    assert [kind for kind in kinds if kind in ENDS] == kinds[-1:]
    begun = [data for data in mine if data["type"] == f"{TURN}item.added"]
    names = [data["item"]["id"] for data in begun]
    assert len(names) == len(set(names)), "an item was begun twice"
    whole: list[int] = []
    for one in begun:
        item = one["item"]
        of_it = [
            data for data in mine if data.get("item_id") == item["id"] or data.get("item", {}).get("id") == item["id"]
        ]
        assert all(data["output_index"] == one["output_index"] for data in of_it)
        if one["output_index"] is None:
            assert [data["type"] for data in of_it] == [f"{TURN}item.added"]
            assert item["status"] != "in_progress"
            continue
        last = _check_item(of_it)
        if last["status"] != "incomplete" or item["type"] == "function_call":
            whole.append(one["output_index"])
    assert whole == list(range(len(whole))), "places are given one after the other"
    calls = {data["item"]["call_id"] for data in begun if data["item"]["type"] == "function_call"}
    came = {data["item"]["call_id"] for data in begun if data["item"]["type"] == "function_call_output"}
    assert calls == came, "a call without an output"


def _check_item(mine: Sequence[Any]) -> Any:
    """The rules for one item; answers it as it was when it was done."""
    kinds = [data["type"].removeprefix(TURN) for data in mine]
    assert (kinds[0], kinds[-1]) == ("item.added", "item.done")
    assert (kinds.count("item.added"), kinds.count("item.done")) == (1, 1)
    last = mine[-1]["item"]
    if last["type"] not in ("message", "reasoning"):
        assert kinds == ["item.added", "item.done"]
        return last
    text, part = (
        ("output_text", "content_part")
        if last["type"] == "message"
        else ("reasoning_summary_text", "reasoning_summary_part")
    )
    deltas = [data["delta"] for data in mine if data["type"] == f"{TURN}{text}.delta"]
    assert "" not in deltas
    if last["status"] == "incomplete":
        assert kinds[1:-1] == ([f"{part}.added"] + [f"{text}.delta"] * len(deltas))[: len(kinds) - 2]
        return last
    assert kinds[1:-1] == [f"{part}.added", *[f"{text}.delta"] * len(deltas), f"{text}.done", f"{part}.done"]
    (content,) = last["content"] if last["type"] == "message" else last["summary"]
    assert "".join(deltas) == content["text"] == mine[-3]["text"] == mine[-2]["part"]["text"]
    return last


# --- the turns --------------------------------------------------------------------------------------------------------

Scene = Callable[[WireServer, Any, Listener, str], int]
"""What happens in a session; answers how often it comes to rest."""


def says(*told: str) -> Scene:
    def play(server: WireServer, client: Any, live: Listener, session: str) -> int:
        for number, words in enumerate(told, start=1):
            send(client, session, message(words))
            live.until(rests(number))
        return len(told)

    return play


def queues(server: WireServer, client: Any, live: Listener, session: str) -> int:
    send(client, session, message("one"), message("two"))
    return 1


def joins(how: str) -> Scene:
    def play(server: WireServer, client: Any, live: Listener, session: str) -> int:
        send(client, session, message('call price={"thing":"tea"}'))
        live.until(lambda events: f"{TURN}output_text.delta" in [data["type"] for _, data in events])
        send(client, session, message("and quick"), extra_headers={"x-if-busy": how})
        return 1

    return play


def _more_than(seen: int, events: Sequence[Event]) -> bool:
    return len(events) > seen


def acts(words: str, answer: Callable[[Any], Any]) -> Scene:
    """What the client has to do is done, one after the other, each as soon as it is asked for."""

    def play(server: WireServer, client: Any, live: Listener, session: str) -> int:
        send(client, session, message(words))
        done, seen, kinds = set[str](), 0, list[str]()
        while IDLE not in kinds:
            events = live.until(partial(_more_than, seen))
            kinds, seen = [data["type"] for _, data in events[seen:]], len(events)
            actions = client.beta.agents.sessions.retrieve(session).required_actions if ASKS in kinds else []
            for action in actions:
                name = getattr(action, "call_id", None) or action.request_id
                if name not in done:
                    done.add(name)
                    send(client, session, answer(action))
        return 1

    return play


def cancels(words: str, when: str) -> Scene:
    def play(server: WireServer, client: Any, live: Listener, session: str) -> int:
        send(client, session, message(words))
        live.until(lambda events: when in [data["type"] for _, data in events])
        send(client, session, {"type": "agent.session.input.cancel"})
        return 1

    return play


def pauses(server: WireServer, client: Any, live: Listener, session: str) -> int:
    client.beta.agents.sessions.update(session, spend_control={"limit": 1})
    send(client, session, message("one"))
    live.until(lambda events: any(data["type"] == "agent.session.budget_reached" for _, data in events))
    client.beta.agents.sessions.update(session, spend_control={"limit": 500_000})
    return 1


SCENES: dict[str, Scene] = {
    "words": says("one", "two"),
    "two at once": queues,
    "tools of the server": says('call price={"thing":"tea"}; price={"thing":"void"}'),
    "functions of the client": acts('call look={"at":"me"}; look={}', result),
    "a function that failed": acts(
        "call look={}", lambda action: result(action, None, success=False, error="it is dark")
    ),
    "both": acts('call look={}; price={"thing":"tea"}', result),
    "approved": acts('call refund={"cents":1}; refund={"cents":2}', lambda action: decision(action, "approve")),
    "denied": acts('call price={"thing":"tea"}; refund={"cents":1}', lambda action: decision(action, "deny")),
    "a question": acts('call ask_human={"question":"Which?"}', lambda action: result(action, "that one")),
    "steered": joins("steer"),
    "interrupted": joins("interrupt"),
    "cancelled in mid-sentence": cancels("stall", f"{TURN}output_text.delta"),
    "cancelled while a person is asked": cancels('call refund={"cents":1}', ASKS),
    "cancelled while the client works": cancels("call look={}", ASKS),
    "out of money": pauses,
    "broken off and tried again": says("break"),
    "failed in mid-sentence": says("fail", "better"),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_order_and_going_on_after_every_event(server: WireServer, name: str) -> None:
    with server.client(timeout=60) as client:
        session = opened(client, agent_id="desk", agent={"tools": [LOOK, *_own(client)]}).id
        live = Listener(server, session)
        live.until(bool)  # it is there before anything is said
        count = SCENES[name](server, client, live, session)
        heard = live.end(rests(count))
    held(server, session, heard, count)


def _own(client: Any) -> list[Any]:
    """The tools of the agent itself, as they are named when some are added."""
    return [one.to_dict() for one in client.beta.agents.retrieve("desk").tools]


def test_a_fork_keeps_the_order_too(server: WireServer) -> None:
    async def forked(rt: Remanence) -> str:
        return await forks.fork(rt.caller, session, turn=1)

    with server.client(timeout=60) as client:
        session = opened(client, "one", agent_id="desk").id
        first = Listener(server, session)
        first.until(rests(1))
        send(client, session, message("two"))
        first.end(rests(2))
        fork = server.do(forked)
        live = Listener(server, fork)
        live.until(rests(1))
        send(client, fork, message('call price={"thing":"tea"}'))
        heard = live.end(rests(2))
    held(server, fork, heard, 2)


def held(server: WireServer, session: str, heard: list[Event], count: int) -> None:
    """What was heard live keeps the rules, and so does what is heard later, after whichever event."""
    whole = Listener(server, session).end(rests(count))
    check(whole)
    check(heard)
    assert settled(heard) == settled(whole)
    assert any("~" in name for name, _ in heard), "nothing was heard live"
    for number, (name, _) in enumerate(whole[:-1]):
        how = ("last-event-id", "starting_after")[number % 2]
        assert Listener(server, session, name, how=how).end(at(whole[-1][0])) == whole[number + 1 :], name
    for number, (name, _) in enumerate(heard[:-1]):
        if "~" in name:
            rest = Listener(server, session, name).end(at(whole[-1][0]))
            check([*heard[: number + 1], *rest])
            assert settled([*heard[: number + 1], *rest]) == settled(whole), name


def settled(events: Sequence[Event]) -> Any:
    order, texts, begun = settled_of([Frame(name, data) for name, data in events])
    assert not begun, "an item was begun, and neither completed nor closed"
    return order, texts
