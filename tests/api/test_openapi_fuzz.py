"""Our own OpenAPI document against the server: whatever fits it, and whatever does not, is answered as it says.

No 500, no status that the document does not name, and every answer of the shape it promises. Bounded: a few requests
for each operation, always the same ones. Most of them name things that exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from wire_server import KEY, WireServer

from remanence.content import Text, ToolCall, Usage, text_of
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FACES = (
    "/v1/agents/sessions",
    "/v1/agents",
    "/v1/responses",
    "/v1/conversations",
    "/v1/chat",
    "/v1/models",
    "/v1/vaults",
    "/admin/v1/sessions",
    "/admin/v1/memory",
    "/admin/v1",
    "/",
)
FUNCTION: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": None}


FEW = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_HELLO: Any = {"role": "user", "content": "hello"}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "scripted", "input": "hello"},
    "/v1/responses/input_tokens": {"model": "scripted", "input": "hello"},
    "/v1/responses/compact": {"model": "scripted", "input": "hello"},
    "/v1/chat/completions": {"model": "scripted", "messages": [_HELLO]},
    "/v1/conversations/{conversation_id}/items": {"items": [_HELLO]},
    "/v1/agents": {"model": "scripted"},
    "/v1/agents/sessions": {"agent": {"model": "scripted"}, "environment": {"type": "none"}, "input": "hello"},
    "/admin/v1/freezes": {"scope": "agent:nobody"},
    "/admin/v1/budgets": {"scope": "agent:nobody"},
}
"""What is true in the body of a request that means something; the rest of it is made up."""


@schemathesis.serializer("application/zip")
def _as_it_stands(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def script(request: ModelRequest) -> ModelReply:
    said = text_of(request.messages[-1].parts)
    if said == "call":
        return ModelReply((ToolCall("c", "f", "{}"),), Usage(3, 2), stop="tool_calls")
    return ModelReply((Text(f"I heard {said[:40]!r}"),), Usage(3, 2))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    made = WireServer(f"{tmp_path_factory.mktemp('fuzz')}/a.db", {"scripted": Scripted(script)})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def there(server: WireServer) -> dict[str, list[str]]:
    """Things that exist, by the parameter that names them."""
    with server.client() as client:
        talk = client.conversations.create(items=[{"role": "user", "content": "hello"}])
        answered = client.responses.create(model="scripted", input="hello")
        waiting = client.responses.create(model="scripted", input="call", tools=[FUNCTION])
        agent = client.beta.agents.create(name="helper", model="scripted")
        opened = client.beta.agents.sessions.create(agent_id=agent.id, environment={"type": "none"}, input="hello")
        item = client.conversations.items.list(talk.id).data[0]
        turn = client.beta.agents.sessions.turns.list(opened.id).data[0]
    sessions = [answered.id.removeprefix("resp_").rpartition("_")[0], opened.id]
    return {
        "conversation_id": [talk.id],
        "response_id": [answered.id, waiting.id],
        "agent_id": [agent.id],
        "agent": ["responses", "helper"],
        "session_id": [opened.id],
        "session": sessions,
        "item_id": [item.id],
        "model": ["scripted"],
        "call": ["call_1_1_1"],
        "turn_id": [turn.id],
        "scope": ["all", f"session:{sessions[0]}"],
    }


@pytest.fixture(scope="module")
def document(server: WireServer) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", timeout=60)


def face_of(path: str) -> str:
    return next(face for face in FACES if path.startswith(face))


@pytest.mark.parametrize("face", FACES)
def test_every_operation_keeps_to_the_document(
    face: str, server: WireServer, document: Any, there: dict[str, list[str]], subtests: pytest.Subtests
) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    asked = [operation for operation in operations if face_of(operation.path) == face]
    asked.sort(key=lambda operation: operation.method == "delete")
    assert asked
    with requests.Session() as connection:
        for operation in asked:
            with subtests.test(operation.label):
                _drive(operation, server, connection, there)


def _rounds(operation: Any) -> list[tuple[GenerationMode, bool, int]]:
    """What is not served yet is refused before it is read; what takes nothing cannot be asked wrongly."""
    takes = operation.body or any(True for _ in operation.iter_parameters())
    if not takes or operation.tags == ["not available"]:
        return [(GenerationMode.POSITIVE, False, 2)]
    return [(GenerationMode.POSITIVE, True, 5), (GenerationMode.POSITIVE, False, 1), (GenerationMode.NEGATIVE, True, 3)]


def _drive(operation: Any, server: WireServer, connection: requests.Session, there: dict[str, list[str]]) -> None:
    for mode, known, count in _rounds(operation):

        def ask(case: Any) -> None:
            if known:  # noqa: B023 - it is called in this round
                _name_what_is_there(case, there)
            response = _asked(case, server.url, connection)
            if response is not None:
                case.validate_response(response, checks=CHECKS)

        given(case=operation.as_strategy(mode))(settings(FEW, max_examples=count)(ask))()


def _name_what_is_there(case: Any, there: dict[str, list[str]]) -> None:
    """Let a request mean things that exist and say something: else it is refused for that before the rest is read."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = there.get(name, [case.path_parameters[name]])[0]
    if isinstance(case.body, dict):
        case.body.update(GOOD.get(case.path, {}))
        for name in ("previous_response_id", "conversation"):
            case.body.pop(name, None)


def _asked(case: Any, url: str, connection: requests.Session) -> requests.Response | None:
    """The answer; of a stream that has begun only that it did."""
    request = case.as_transport_kwargs(base_url=url, headers={"authorization": f"Bearer {KEY}"})
    response = connection.request(**request, stream=True, timeout=60)
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        assert response.status_code == 200
        response.close()
        return None
    assert response.content is not None
    return response
