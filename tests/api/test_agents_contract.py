"""Every method of the vendors' `beta.agents`, synchronous and asynchronous, in their strict mode, over a real socket.

The client itself validates what it gets against the models of its package. A method that is not driven here fails the
walk at the end: a new release of the package cannot bring one unnoticed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError, Stream
from openai._base_client import BaseSyncPage
from openai.resources.beta.agents import Agents
from wire_server import WireServer, serve

from remanence.testing.scripted import Script, call, calls, dialogue, fails, says

LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
SCRIPT = Script(
    (
        dialogue("look", calls(call("look"), call("look", twice=True)), says("I saw $result.")),
        dialogue("fail", fails(says("never"), "invalid_request", times=0)),
        dialogue("", says("Hello, $user.", thinking="They said $user.")),
    )
)
NONE: Any = {"type": "none"}


class Driver:
    """Calls methods by their path, whether they have to be awaited or not."""

    def __init__(self, server: WireServer, *, is_async: bool) -> None:
        self._is_async = is_async
        self._server = server
        self.driven: set[str] = set()

    def __call__(self, path: str, /, *args: Any, **kwargs: Any) -> Any:
        """The answer of one call; a page or a stream as the list of all that it gives."""
        self.driven.add(path)
        if self._is_async:
            return asyncio.run(self._awaited(path, args, kwargs))
        with self._server.client() as client:
            return _gathered(_method(client.beta.agents, path)(*args, **kwargs))

    async def _awaited(self, path: str, args: Any, kwargs: Any) -> Any:
        async with self._server.async_client() as client:
            made = _method(client.beta.agents, path)(*args, **kwargs)
            answer = await made if inspect.isawaitable(made) else made
            if hasattr(answer, "__aiter__") and not hasattr(answer, "read"):
                return [one async for one in answer]
            return answer


def _method(agents: Any, path: str) -> Any:
    for name in path.split("."):
        agents = getattr(agents, name)
    return agents


def _gathered(answer: Any) -> Any:
    return list(answer) if isinstance(answer, BaseSyncPage | Stream) else answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WireServer]:
    with serve(tmp_path / "a.db", SCRIPT) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def do(request: pytest.FixtureRequest, server: WireServer) -> Driver:
    return Driver(server, is_async=request.param == "async")


def test_every_method(do: Driver) -> None:
    drive_agents(do)
    session = drive_sessions(do)
    drive_reading(do, session)
    drive_what_is_missing(do, session)
    assert do.driven == methods_of(Agents) - HELPERS


def test_over_postgresql(postgres_database: str) -> None:
    with serve(postgres_database, SCRIPT) as server:
        do = Driver(server, is_async=False)
        drive_agents(do)
        drive_reading(do, drive_sessions(do))


HELPERS = {"sessions.stream", "sessions.artifacts.for_result"} | {
    f"environments.files.{name}" for name in ("prepare", "prepare_directory", "upload")
}
"""What the package makes of the other methods; `test_agents_sessions.py` drives those that can be."""


def methods_of(resource: Any, prefix: str = "") -> set[str]:
    """The public methods of a resource and of those under it."""
    found: set[str] = set()
    for name, member in vars(resource).items():
        if name.startswith(("_", "with_")):
            continue
        if inspect.isfunction(member):
            found.add(prefix + name)
        elif hasattr(member, "func"):
            inner = inspect.getmodule(resource)
            found |= methods_of(
                getattr(inner, str(inspect.signature(member.func).return_annotation)), f"{prefix}{name}."
            )
    return found


# --- agents and sessions ----------------------------------------------------------------------------------------------


def drive_agents(do: Driver) -> None:
    made = do("create", model="scripted", name="one", tools=[LOOK], metadata={"team": "a"}, instructions="Be short.")
    assert do("retrieve", made.id) == made
    changed = do("update", made.id, name=None, reasoning={"effort": "low"}, text={"format": {"type": "text"}})
    assert (changed.id, changed.name, changed.reasoning.effort, changed.tools) == (made.id, None, "low", made.tools)
    assert changed in do("list", limit=1)
    assert do("delete", made.id).deleted
    with pytest.raises(NotFoundError):
        do("retrieve", made.id)


def drive_sessions(do: Driver) -> str:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    agent: Any = {"model": "scripted", "tools": [LOOK], "text": {"format": {"type": "json_schema", "schema": schema}}}
    made = do(
        "sessions.create",
        environment=NONE,
        agent=agent,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "look around"}]}],
        metadata={"case": "1"},
        prompt_cache_options={"ttl": "12h"},
        review="none",
        spend_control={"limit": 1_000},
        vault_ids=[],
    )
    assert (made.spend_control.limit, made.metadata, made.prompt_cache_options.ttl) == (1_000, {"case": "1"}, "12h")
    until(do, made.id, "requires_action")
    changed = do("sessions.update", made.id, metadata={"case": "2"}, spend_control=None, agent={"service_tier": "auto"})
    assert (changed.metadata, changed.spend_control.limit) == ({"case": "2"}, None)
    assert [one.id for one in do("sessions.list", metadata={"case": "2"}, agent_id=made.agent.id, order="asc")] == [
        made.id
    ]
    for action in do("sessions.retrieve", made.id).required_actions:
        result = {"call_id": action.call_id, "turn_id": action.turn_id, "success": True, "output": "a tree"}
        do("sessions.events.create", made.id, events=[{"type": "agent.session.input.tool_result", **result}])
    until(do, made.id, "idle")
    assert [event.type for event in stream_until(do, made.id, "agent.session.idle")] == ["agent.session.idle"]
    streamed = do("sessions.create", environment=NONE, agent={"model": "scripted"}, input="hi", stream=True)
    assert [event.type for event in streamed[:1] + streamed[-1:]] == ["agent.session.created", "agent.session.idle"]
    assert do("sessions.delete", streamed[0].session.id).deleted
    with pytest.raises(NotFoundError):
        do("sessions.retrieve", streamed[0].session.id)
    return made.id


def until(do: Driver, session: str, status: str) -> None:
    """Follow the session until it stands like this."""
    if do("sessions.retrieve", session).status != status:
        stream_until(do, session, f"agent.session.{status}")


def stream_until(do: Driver, session: str, kind: str) -> list[Any]:
    """Events from now on until one of this kind."""
    do.driven.add("sessions.events.stream")
    read: list[Any] = []

    async def read_async() -> None:
        async with (
            do._server.async_client() as client,
            await client.beta.agents.sessions.events.stream(session) as events,
        ):
            async for event in events:
                read.append(event)
                if event.type == kind:
                    return

    if do._is_async:
        asyncio.run(read_async())
        return read
    with do._server.client() as client, client.beta.agents.sessions.events.stream(session) as events:
        for event in events:
            read.append(event)
            if event.type == kind:
                break
    return read


def drive_reading(do: Driver, session: str) -> None:
    items = do("sessions.items.list", session, order="asc", limit=2)
    kinds = ["message", *["function_call"] * 2, *["function_call_output"] * 2, "reasoning", "message"]
    assert sorted(item.type for item in items) == sorted([kind for kind in kinds if kind != "reasoning"])
    assert [item.id for item in do("sessions.items.list", session, limit=3)] == [item.id for item in reversed(items)]
    turn = do("sessions.turns.list", session)[0]
    assert (turn.status, do("sessions.turns.retrieve", turn.id, session_id=session)) == ("completed", turn)
    assert do("sessions.turns.items.list", turn.id, session_id=session, order="asc", limit=1) == items
    trace = do("sessions.traces.list", session)[0]
    names = [span["name"] for span in trace.otlp["resourceSpans"][0]["scopeSpans"][0]["spans"]]
    assert sorted(set(names)) == ["chat scripted", "execute_tool look", names[0]]
    assert do("sessions.subagents.list", session) == do("sessions.artifacts.list", session) == []


# --- what is not there ------------------------------------------------------------------------------------------------


def drive_what_is_missing(do: Driver, session: str) -> None:
    """Correct 404s: nothing of the kind exists yet, or the release does not serve it and says so."""
    own = {"session_id": session}
    nothing: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("sessions.subagents.retrieve", ("sub_1",), own),
        ("sessions.subagents.items.list", ("sub_1",), own),
        ("sessions.subagents.turns.list", ("sub_1",), own),
        ("sessions.subagents.turns.retrieve", ("turn_1",), {**own, "subagent_id": "sub_1"}),
        ("sessions.subagents.turns.items.list", ("turn_1",), {**own, "subagent_id": "sub_1"}),
        ("sessions.artifacts.retrieve", ("art_1",), own),
        ("sessions.artifacts.delete", ("art_1",), own),
        ("sessions.artifacts.content", ("art_1",), own),
    ]
    for path, args, kwargs in nothing:
        assert refused(do, path, *args, **kwargs) == "not_found"
    vault = {"vault_id": "vault_1"}
    missing: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("environments.create", (), {"environment": {"type": "openai_hosted"}}),
        ("environments.retrieve", ("env_1",), {}),
        ("environments.list", (), {}),
        ("environments.files.create", ("env_1",), {"path": "/workspace/a", "type": "inline", "data": "YQ=="}),
        ("environments.files.list", ("env_1",), {}),
        ("environments.templates.create", (), {"name": "t"}),
        ("environments.templates.retrieve", ("tpl_1",), {}),
        ("environments.templates.update", ("tpl_1",), {}),
        ("environments.templates.list", (), {}),
        ("environments.templates.delete", ("tpl_1",), {}),
        ("vaults.create", (), {"name": "v"}),
        ("vaults.retrieve", ("vault_1",), {}),
        ("vaults.update", ("vault_1",), {}),
        ("vaults.list", (), {}),
        ("vaults.delete", ("vault_1",), {}),
        ("vaults.credentials.create", ("vault_1",), {"auth": {"type": "bearer_token", "token": "t"}, "name": "c"}),
        ("vaults.credentials.retrieve", ("cred_1",), vault),
        ("vaults.credentials.update", ("cred_1",), vault),
        ("vaults.credentials.list", ("vault_1",), {}),
        ("vaults.credentials.delete", ("cred_1",), vault),
        ("automations.create", (), {"name": "a", "type": "one_time", "target": {}, "run_at": 1, "timezone": "UTC"}),
        ("automations.retrieve", ("auto_1",), {}),
        ("automations.update", ("auto_1",), {}),
        ("automations.list", (), {}),
        ("automations.delete", ("auto_1",), {}),
        ("automations.pause", ("auto_1",), {}),
        ("automations.resume", ("auto_1",), {}),
        ("automations.invocations.create", ("auto_1",), {}),
        ("automations.invocations.retrieve", ("inv_1",), {"automation_id": "auto_1"}),
        ("automations.invocations.list", ("auto_1",), {}),
    ]
    for path, args, kwargs in missing:
        assert refused(do, path, *args, **kwargs) == "not_available", path


def refused(do: Driver, path: str, /, *args: Any, **kwargs: Any) -> str | None:
    """The code of the error a call ends in."""
    with pytest.raises(NotFoundError) as caught:
        do(path, *args, **kwargs)
    return caught.value.code
