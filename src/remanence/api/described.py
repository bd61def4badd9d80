"""The shapes of what the Agents API answers, in the OpenAPI document: taken from the vendors' own package.

Its models are the specification, and the client validates our answers with them; so they describe the answers too. The
package is imported when somebody asks for the document, not when the server starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

__all__ = ["answers", "describe"]

_KEY = "x-answer"
_PREFIX = "Answer_"
_MODULES = {
    "Agent": "openai.types.beta.agent",
    "AgentDeleted": "openai.types.beta.agent_deleted",
    "AgentSession": "openai.types.beta.agent_session",
    "AgentSessionDeleted": "openai.types.beta.agent_session_deleted",
    "AgentSessionEvent": "openai.types.beta.agent_session_event",
    "AgentSessionItem": "openai.types.beta.agent_session_item",
    "SessionArtifact": "openai.types.beta.agents.sessions.session_artifact",
    "SessionTrace": "openai.types.beta.agents.sessions.session_trace",
    "Subagent": "openai.types.beta.subagent",
    "Turn": "openai.types.beta.agents.sessions.turn",
}


def answers(name: str, *, many: bool = False, stream: bool = False) -> dict[str, Any]:
    """What an operation answers, for `openapi_extra`: one of these, a page of them, or a stream of them."""
    return {_KEY: {"name": name, "many": many, "stream": stream}}


def describe(document: dict[str, Any]) -> None:
    """Put the shapes where operations ask for them."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for path in document["paths"].values():
        for operation in path.values():
            wanted = operation.pop(_KEY, None)
            if wanted is None:
                continue
            schema = _schema(wanted["name"], schemas)
            if wanted["many"]:
                schema = _page(schema)
            kind = "text/event-stream" if wanted["stream"] else "application/json"
            answer = operation["responses"].setdefault("200", {"description": "It is done."})
            answer["content"] = {kind: {"schema": schema}}


def _schema(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to a model of the package, whose definition is added under a name of its own."""
    reference = {"$ref": f"#/components/schemas/{_PREFIX}{name}"}
    if f"{_PREFIX}{name}" not in schemas:
        from pydantic import TypeAdapter

        model = getattr(import_module(_MODULES[name]), name)
        made = TypeAdapter[Any](model).json_schema(ref_template=f"#/components/schemas/{_PREFIX}{{model}}")
        definitions = cast("dict[str, Any]", made.pop("$defs", {}))
        for inner, definition in definitions.items():
            schemas.setdefault(f"{_PREFIX}{inner}", definition)
        schemas[f"{_PREFIX}{name}"] = made
    return reference


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
