"""The shapes of what the vendors' formats answer, in the OpenAPI document: taken from the vendors' own package.

Its models are the specification, and the client validates our answers with them; so they describe the answers too. The
package is imported when somebody asks for the document, not when the server starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

__all__ = ["REFUSES", "answers", "describe", "shorten"]

_KEY = "x-answer"
_PREFIX = "Answer_"
_PLACE = "#/components/schemas/"
_REFUSALS = "#/components/responses/"
REFUSES: dict[str, Any] = {_KEY: {}}
"""For `openapi_extra` of an operation that is only there to say that its subject is not served, or is not there."""
_MODULES = {
    "Agent": "openai.types.beta.agent",
    "AgentDeleted": "openai.types.beta.agent_deleted",
    "AgentSession": "openai.types.beta.agent_session",
    "AgentSessionDeleted": "openai.types.beta.agent_session_deleted",
    "AgentSessionEvent": "openai.types.beta.agent_session_event",
    "AgentSessionItem": "openai.types.beta.agent_session_item",
    "CompactedResponse": "openai.types.responses.compacted_response",
    "Conversation": "openai.types.conversations.conversation",
    "ConversationDeletedResource": "openai.types.conversations.conversation_deleted_resource",
    "ConversationItem": "openai.types.conversations.conversation_item",
    "ConversationItemList": "openai.types.conversations.conversation_item_list",
    "InputTokenCountResponse": "openai.types.responses.input_token_count_response",
    "Response": "openai.types.responses.response",
    "ResponseItem": "openai.types.responses.response_item",
    "SessionArtifact": "openai.types.beta.agents.sessions.session_artifact",
    "SessionTrace": "openai.types.beta.agents.sessions.session_trace",
    "Subagent": "openai.types.beta.subagent",
    "Turn": "openai.types.beta.agents.sessions.turn",
}


def answers(name: str, *, many: bool = False, stream: bool = False, streams: bool = False) -> dict[str, Any]:
    """What an operation answers, for `openapi_extra`: one of these, a page, or a stream of them. `streams`: one,
    or its events when the request asks for those."""
    return {_KEY: {"name": name, "many": many, "stream": stream, "streams": streams}}


def describe(document: dict[str, Any]) -> None:
    """Put the shapes where operations ask for them, and take the answer from those that only refuse."""
    operations = [operation for path in document["paths"].values() for operation in path.values() if _KEY in operation]
    asked = [(operation, operation.pop(_KEY)) for operation in operations]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _schemas(sorted({wanted["name"] for _, wanted in asked if wanted}))
    for operation, wanted in asked:
        if not wanted:
            del operation["responses"]["200"]
            continue
        schema = {"$ref": f"{_PLACE}{_PREFIX}{wanted['name']}"}
        kind = "text/event-stream" if wanted["stream"] else "application/json"
        answer = operation["responses"].setdefault("200", {"description": "It is done."})
        answer["content"] = {kind: {"schema": _page(schema) if wanted["many"] else schema}}
        if wanted["streams"]:
            answer["content"]["text/event-stream"] = {}


def shorten(document: dict[str, Any]) -> None:
    """Say once what is said often: refusals that many operations share are referred to, and a field has no title, which
    would only be its name again."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    refusals = [
        (operation["responses"], status)
        for operation in operations
        for status in operation["responses"]
        if not status.startswith("2")
    ]
    often = Counter((status, repr(responses[status])) for responses, status in refusals)
    common: dict[str, str] = {}
    for (status, told), times in often.most_common():
        if times > 1:
            common.setdefault(status, told)
    shared = document["components"].setdefault("responses", {})
    for responses, status in refusals:
        if repr(responses[status]) == common.get(status):
            shared[f"Refused_{status}"] = responses[status]
            responses[status] = {"$ref": f"{_REFUSALS}Refused_{status}"}
    fields = [
        field
        for schema in document["components"]["schemas"].values()
        for field in schema.get("properties", {}).values()
    ]
    for field in (*fields, *(one["schema"] for operation in operations for one in operation.get("parameters", ()))):
        field.pop("title", None)


def _schemas(names: Sequence[str]) -> dict[str, Any]:
    """These models of the package and all they are made of, each under a name of its own."""
    from pydantic import TypeAdapter

    models = [(name, TypeAdapter[Any](getattr(import_module(_MODULES[name]), name))) for name in names]
    roots, made = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in models], ref_template=f"{_PLACE}{_PREFIX}{{model}}"
    )
    definitions = cast("dict[str, Any]", made.get("$defs", {}))
    found = {f"{_PREFIX}{inner}": definition for inner, definition in definitions.items()}
    return found | {f"{_PREFIX}{name}": roots[name, "validation"] for name in names if name not in definitions}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    text = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    fields = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": item},
        "first_id": text,
        "last_id": text,
        "has_more": {"type": "boolean"},
    }
    return {"type": "object", "properties": fields, "required": list(fields)}
